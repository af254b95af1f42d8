"""What is fuzzed: functions of bytes from outside that may raise nothing but ZooError, with bytes to begin from.

`tests/attacks/test_attack_fuzz.py` runs them with hypothesis in every run of the tests, `fuzz.py` with atheris by hand.
Where there is another reader of the same bytes (the onnx package, safetensors, PyYAML), what ours accepts must be
what the other sees.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from support import tiny
from zoo.artifacts import FileEntry
from zoo.artifacts.card import card_text
from zoo.artifacts.figures import figures_of
from zoo.artifacts.golden import golden_bytes
from zoo.artifacts.manifest import parse_manifest
from zoo.artifacts.metadata import Publication, eval_results
from zoo.artifacts.safetensors_check import checked_tensors
from zoo.download.revision import resolve_request
from zoo.errors import IntegrityError, ZooError
from zoo.onnx.check import check_onnx
from zoo.onnx.uint8 import prepare_for_onnxruntime
from zoo.raw.decoder_worker import READY
from zoo.raw.sniff import has_raw_header, other_kind
from zoo.raw.subprocess_decoder import _receive
from zoo.recipes.grammar import parse
from zoo.recipes.recipe_toml import dumps, loads
from zoo.registry import parse_registry
from zoo.schema import parse_json
from zoo.storage.safe_names import clashing_names, unsafe_name

ROOT = Path(__file__).resolve().parents[3]
CHECKPOINT = ROOT / "checkpoints" / "lighter-unet-int8"


@dataclass(frozen=True)
class Target:
    """run: raises ZooError, or AssertionError if two readers differ; anything else is a bug too."""

    run: Callable[[bytes], object]
    seeds: tuple[bytes, ...]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def manifest(data: bytes) -> None:
    """zoo.json: what is read must be written and read again as the same."""
    found = parse_manifest(data, "zoo.json")
    assert parse_manifest(found.to_json().encode(), "zoo.json") == found
    for name in found.files:
        assert not PurePosixPath(name).is_absolute()
        assert ".." not in PurePosixPath(name).parts


def recipe_text(data: bytes) -> None:
    """The one-line form: what is read must be written and read again as the same."""
    found = parse(_text(data))
    assert parse(str(found)) == found


def recipe_toml(data: bytes) -> None:
    """recipe.toml."""
    found = loads(data)
    assert loads(dumps(found)) == found


def registry(data: bytes) -> None:
    """registry.toml, as a file of the user's and as one from a web server."""
    try:
        parse_registry(data, "registry.toml", remote=True)
    except IntegrityError:
        parse_registry(data, "registry.toml")


def tensors(data: bytes) -> None:
    """A safetensors file: what we accept, the library must read."""
    from safetensors.numpy import load

    checked_tensors(data, "x.safetensors")
    try:
        load(data)
    except (KeyError, TypeError, AttributeError):  # a type that numpy lacks
        assert b"BF16" in data or b"F8_" in data


def model(data: bytes) -> None:
    """An ONNX file: what we accept, the onnx package must read, and see whole in itself."""
    from google.protobuf.message import DecodeError
    from onnx.external_data_helper import _get_all_tensors, uses_external_data

    import onnx

    prepare_for_onnxruntime(data, unsigned=True)
    check_onnx(data)
    try:
        proto = onnx.load_model_from_string(data)
    except DecodeError:  # it is stricter about things that no engine looks at
        return
    assert not any(uses_external_data(tensor) for tensor in _get_all_tensors(proto))
    assert not proto.functions
    assert not proto.training_info
    for node in proto.graph.node:
        assert node.domain in ("", "ai.onnx")
        assert node.op_type not in ("Loop", "Scan")
    for tensor in proto.graph.initializer:
        onnx.numpy_helper.to_array(tensor)


def card(data: bytes) -> None:
    """A card made of hostile metrics: its metadata must be what PyYAML reads of it, and nothing smuggled in."""
    import yaml

    metrics = parse_json(data, "metrics.json", error=IntegrityError)
    if not isinstance(metrics, dict):
        return
    figures = figures_of(metrics)
    publication = Publication("me/net", "net", "apache-2.0")
    text = card_text("net", tiny.manifest(), metrics, publication)
    assert text.startswith("---\n")
    head = yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))
    assert head["library_name"] == "compression-zoo"
    assert head["license"] == "apache-2.0"
    assert {"library_name", "license", "tags"} <= head.keys()
    for content in eval_results(figures, "darkroom").values():
        yaml.safe_load(content)


def names(data: bytes) -> None:
    """File names: one that is called safe stays in its folder, whatever system it is for."""
    name = _text(data)
    if unsafe_name(name) is None:
        path = PurePosixPath(name)
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert "\\" not in name
        assert ":" not in name
        assert "\0" not in name
        assert clashing_names([name, name.swapcase(), "x"]) or name.swapcase() == "x"


def request(data: bytes) -> None:
    """What a user may ask `zoo pull` for."""
    resolve_request(_text(data), {})


def answer(data: bytes) -> None:
    """What a RAW decoder that was taken over may answer."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        sender = threading.Thread(target=_send, args=(theirs, data))
        sender.start()
        try:
            frame = _receive(ours, time.monotonic() + 0.2, "x.dng", 1 << 20)
            assert frame.mosaic.nbytes <= 1 << 20
        except OSError:  # it ended, or took too long: the decoder tells of both as it does of a crash
            pass
        finally:
            ours.shutdown(socket.SHUT_RDWR)
            sender.join()


def _send(channel: socket.socket, data: bytes) -> None:
    try:
        channel.sendall(data)
        channel.shutdown(socket.SHUT_WR)
    except OSError:
        pass


def head(data: bytes) -> None:
    """The first bytes of a file given as RAW."""
    has_raw_header(data)
    other_kind(data)


def _answer_seed() -> bytes:
    described = {
        "height": 4, "width": 4, "pattern": [0, 1, 3, 2], "black": [0] * 4, "white": [9] * 4, "gains": [1, 1, 1],
        "flip": 0, "doubts": [],
    }  # fmt: skip
    content = json.dumps(described).encode()
    return len(content).to_bytes(len(READY), "little") + content + bytes(32)


def _golden_seed() -> bytes:
    return golden_bytes([(np.zeros((1, 4, 2, 2), np.float32), np.zeros((1, 3, 4, 4), np.float32))])


def _metrics_seed() -> bytes:
    figure = {
        "key": "psnr_db",
        "name": "PSNR",
        "unit": "dB",
        "before": 28.5,
        "after": 28.25,
        "how": "zoo eval x",
    }
    metrics = {
        "baseline": "unet",
        "figures": [figure],
        "notes": ["one"],
        "training": {"data": "darkroom", "seed": 0},
    }
    return json.dumps(metrics).encode()


_REGISTRY = """format = 1
[checkpoint.net]
summary = "a net"
architecture = "unet"
recipe = "depthwise+qat(bits=8)"
fingerprint = "sha256:{digest}"
sources = ["package", "hf:me/net@{commit}", "https://example.org/net/", "file:/srv/net"]
tag = "v1"
[checkpoint.net.figures]
psnr_db = 28.5
[checkpoint.net.devices]
x86-cpu = "onnxruntime 1.20"
[checkpoint.net.files]
"zoo.json" = {{ sha256 = "{digest}", size = 10 }}
""".format(digest="0" * 64, commit="1" * 40)

TARGETS = {
    "manifest": Target(
        manifest,
        (
            (CHECKPOINT / "zoo.json").read_bytes(),
            tiny.manifest(golden=None, files={"model.onnx": FileEntry("0" * 64, 1)}).to_json().encode(),
        ),
    ),
    "recipe-text": Target(recipe_text, (b"depthwise+qat(bits=8,which='all')", b"zoo-x:bb + cc")),
    "recipe-toml": Target(recipe_toml, ((CHECKPOINT / "recipe.toml").read_bytes(),)),
    "registry": Target(registry, (_REGISTRY.encode(),)),
    "tensors": Target(tensors, (_golden_seed(), b"\x02\0\0\0\0\0\0\0{}")),
    "model": Target(model, (tiny.small_unet(), tiny.small_classifier())),
    "card": Target(card, (_metrics_seed(), b"{}")),
    "names": Target(names, (b"a/b.onnx", b"../x", b"C:x", "\u00e9".encode())),
    "request": Target(request, (b"net@v1", b"me/net@" + b"1" * 40, b"me/net@main")),
    "answer": Target(answer, (_answer_seed(),)),
    "head": Target(head, (b"II*\0", b"\0\0\0\x18ftypcrx ", b"RIFF....WEBP")),
}
__all__ = ["TARGETS", "Target", "ZooError"]
