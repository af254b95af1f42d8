"""Files made to take hours or gigabytes are refused within 2 seconds and 256 MB, measured in a process of its own."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from support import tiny
from zoo.artifacts.golden import GOLDEN_NAME
from zoo.artifacts.manifest import LARGEST_MANIFEST
from zoo.artifacts.safetensors_check import LARGEST_HEADER
from zoo.recipes.grammar import parse
from zoo.registry.registry_toml import LARGEST as REGISTRY

#: Of the processor, not of the clock: what takes longest is over in one on a quiet machine, and a busy one is slower.
SECONDS, MEGABYTES = 10.0, 256
MEGABYTE = 1 << 20
#: Opens what it is given in the way of its first argument; prints what that came to, and what it took.
OPENER = """
import json, sys, time
from pathlib import Path
import numpy  # its start is not the file's doing
from zoo.errors import ZooError
from zoo.machine.memory import peak_rss_mb

def artifact(path):
    from zoo.artifacts import open_artifact
    from zoo.artifacts.golden import read_golden
    opened = open_artifact(path)
    opened.metrics()
    read_golden(opened)

def weights(path):
    from zoo.artifacts.safetensors_check import checked_tensors
    from zoo.storage.atomic import read_bytes
    checked_tensors(read_bytes(path, 2**30), str(path))

def model(path):
    from zoo.onnx.check import check_onnx
    from zoo.storage.atomic import read_bytes
    check_onnx(read_bytes(path, 2**30))

def recipe(path):
    from zoo.recipes.recipe_toml import read
    read(path)

def text(path):
    from zoo.recipes.grammar import parse
    parse(path.read_text())

def registry(path):
    from zoo.registry import parse_registry
    from zoo.registry.registry_toml import LARGEST
    from zoo.errors import IntegrityError
    from zoo.storage.atomic import read_bytes
    parse_registry(read_bytes(path, LARGEST, error=IntegrityError), str(path))

results = []
for path in map(Path, sys.argv[2:]):
    started = time.process_time()
    try:
        globals()[sys.argv[1]](path)
        said = ""
    except ZooError as error:
        said = error.message
    results.append({"said": said, "seconds": time.process_time() - started, "peak_mb": peak_rss_mb()})
print(json.dumps(results))
"""


def assert_refused(how: str, bombs: Mapping[str, Path]) -> None:
    """Opening each of the files in one process ends with an error that names it, in little time and memory."""
    done = subprocess.run(
        [sys.executable, "-c", OPENER, how, *map(str, bombs.values())],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for name, result in zip(bombs, json.loads(done.stdout), strict=True):
        assert result["said"], name
        assert result["seconds"] < SECONDS, name
        assert result["peak_mb"] < MEGABYTES, name


def written(folder: Path, contents: Mapping[str, bytes], suffix: str) -> dict[str, Path]:
    paths = {name: folder / f"{number}{suffix}" for number, name in enumerate(contents)}
    for name, content in contents.items():
        paths[name].write_bytes(content)
    return paths


def tensors(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def many(count: int) -> bytes:
    entries = (
        f'"{n}":{{"dtype":"F32","shape":[],"data_offsets":[{4 * n},{4 * n + 4}]}}' for n in range(count)
    )
    return tensors(("{" + ",".join(entries) + "}").encode(), bytes(4 * count))


HEADERS: dict[str, Callable[[], bytes]] = {
    "100 MB header": lambda: tensors(b'{"a":' + b" " * (100 * MEGABYTE) + b"{}}"),
    "a million tensors": lambda: many(1_000_000),
    "as many tensors as fit": lambda: many(LARGEST_HEADER // 66),
    "empty tables": lambda: tensors(b"{" + b'"a":{},' * (LARGEST_HEADER // 7 - 3) + b'"b":{}}'),
    "nested": lambda: tensors(b"[" * LARGEST_HEADER),
    "nested objects": lambda: tensors(b'{"a":' * (LARGEST_HEADER // 5)),
    "header beyond the end": lambda: (1 << 62).to_bytes(8, "little") + b"{}",
    "data beyond the end": lambda: tensors(b'{"a":{"dtype":"U8","shape":[1073741824],"data_offsets":[0,1073741824]}}'),
    "endless shape": lambda: tensors(b'{"a":{"dtype":"F32","shape":[' + b"9," * 500_000 + b'9],"data_offsets":[0,4]}}'),
    "long numbers": lambda: tensors(b'{"a":{"dtype":"F32","shape":[' + b"9" * MEGABYTE + b'],"data_offsets":[0,4]}}'),
}  # fmt: skip


def test_safetensors_bombs_are_refused(tmp_path: Path) -> None:
    contents = {name: make() for name, make in HEADERS.items()}
    assert_refused("weights", written(tmp_path, contents, ".safetensors"))


def metrics(content: bytes) -> dict[str, bytes]:
    return {"metrics.json": content}


def golden(content: bytes) -> dict[str, bytes]:
    return {GOLDEN_NAME: content}


CONTENTS: dict[str, Callable[[], dict[str, bytes]]] = {
    "100 MB golden header": lambda: golden(HEADERS["100 MB header"]()),
    "nested metrics": lambda: metrics(b"[" * 2 * MEGABYTE),
    "nested metrics within what JSON allows": lambda: metrics(b'{"a":' * 700 + b"1" + b"}" * 700),
    "metrics of 10 MB": lambda: metrics(b'{"a":"' + b"x" * (10 * MEGABYTE) + b'"}'),
    "metrics of a million tables": lambda: metrics(b"[" + b"{}," * (2 * MEGABYTE // 3 - 2) + b"{}]"),
}


def test_bombs_inside_an_artifact_are_refused(tmp_path: Path) -> None:
    """Written by hand, for the project's own writer would not."""
    paths = {}
    for number, (name, make) in enumerate(CONTENTS.items()):
        paths[name] = tiny.bayer_artifact(tmp_path / str(number)).path
        described = json.loads((paths[name] / "zoo.json").read_text())
        for file, content in make().items():
            (paths[name] / file).write_bytes(content)
            digest = hashlib.sha256(content).hexdigest()
            described["files"][file] = {"sha256": digest, "size": len(content)}
        (paths[name] / "zoo.json").write_text(json.dumps(described))
    assert_refused("artifact", paths)


MANIFESTS: dict[str, Callable[[], bytes]] = {
    "nested": lambda: b"[" * LARGEST_MANIFEST,
    "nested objects": lambda: b'{"a":' * (LARGEST_MANIFEST // 5),
    "nested within what JSON allows": lambda: b'{"format":1,"input":' + b"[" * 900 + b"]" * 900 + b"}",
    "10 MB": lambda: b" " * (10 * MEGABYTE),
    "many keys": lambda: ("{" + ",".join(f'"{n}":0' for n in range(90_000)) + "}").encode(),
    "many tables": lambda: b"[" + b"{}," * (LARGEST_MANIFEST // 3 - 2) + b"{}]",
    "long number": lambda: b'{"format":' + b"9" * (LARGEST_MANIFEST - 20) + b"}",
    "long fraction": lambda: b'{"format":0.' + b"9" * (LARGEST_MANIFEST - 20) + b"}",
    "escapes": lambda: b'{"format":"' + b"\\u0041" * (LARGEST_MANIFEST // 6 - 5) + b'"}',
}


def test_manifest_bombs_are_refused(tmp_path: Path) -> None:
    paths = {name: tmp_path / str(number) for number, name in enumerate(MANIFESTS)}
    for name, path in paths.items():
        path.mkdir()
        (path / "zoo.json").write_bytes(MANIFESTS[name]())
    assert_refused("artifact", paths)


TOMLS: dict[str, Callable[[int], bytes]] = {
    "nested lists": lambda size: b"a=" + b"[" * size,
    "nested lists within what TOML allows": lambda size: b"a=" + b"[" * 200 + b"]" * 200,
    "nested tables": lambda size: b"a=" + b"{a=" * (size // 3),
    "a key of endless parts": lambda size: b".".join([b"a"] * (size // 2)) + b"=1",
    "a key of endless quoted parts": lambda size: b".".join([b'"="'] * (size // 4)) + b"=1",
    "a key of mixed parts": lambda size: b".".join([b"a.'='"] * (size // 6)) + b"=1",
    "a key of spaced parts": lambda size: b" . ".join([b"a"] * (size // 4)) + b"=1",
    "a heading of endless parts": lambda size: b"[" + b".".join([b"a"] * (size // 2)) + b"]",
    "an inner key of endless parts": lambda size: b"a={" + b".".join([b"a"] * (size // 2)) + b"=1}",
    "an endless number": lambda size: b"a=" + b"9" * size,
    "an endless fraction": lambda size: b"a=0." + b"9" * size,
    "an endless exponent": lambda size: b"a=1e" + b"9" * size,
    "an endless underscore": lambda size: b"a=1" + b"_1" * (size // 2),
    "an endless list": lambda size: b"a=[" + b"0," * (size // 2) + b"]",
    "headings": lambda size: b"[[stage]]\n" * (size // 10),
    "tables": lambda size: b"".join(b"[a%d]\n" % n for n in range(size // 9)),
    "10 MB": lambda size: b"#" * (10 * MEGABYTE),
}


def test_recipe_file_bombs_are_refused(tmp_path: Path) -> None:
    contents = {name: make(MEGABYTE - 100) for name, make in TOMLS.items()}
    assert_refused("recipe", written(tmp_path, contents, ".toml"))


def test_registry_bombs_are_refused(tmp_path: Path) -> None:
    names = ("nested lists", "a heading of endless parts", "an endless list", "tables", "10 MB")
    contents = {name: TOMLS[name](REGISTRY - 100) for name in names}
    assert_refused("registry", written(tmp_path, contents, ".toml"))


def test_recipe_text_bombs_are_refused(tmp_path: Path) -> None:
    assert parse("depthwise").stages
    contents = ("depthwise+" * 100_000, "a(" * 500_000, "a(b=" + "[" * 10**6, "a" * 10**6, "+" * 10**6,
                'a(b="' + "\\" * 10**6, "a(" + "b=1," * 250_000 + ")", " " * 10**6)  # fmt: skip
    assert_refused("text", written(tmp_path, {text[:20]: text.encode() for text in contents}, ".txt"))
