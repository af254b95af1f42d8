"""zoo.json is read strictly: what is not exactly as it should be is refused, and nothing else escapes."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import tiny
from zoo.artifacts import FileEntry, Manifest
from zoo.artifacts.manifest import check_class_names, parse_manifest
from zoo.contracts import InputPart, InputSpec, OutputSpec
from zoo.errors import InputError, IntegrityError, ZooError
from zoo.version import __version__

FILES = {"model.onnx": FileEntry("a" * 64, 12), "golden.safetensors": FileEntry("b" * 64, 0)}
GOOD: dict[str, Any] = json.loads(tiny.manifest(files=FILES).to_json())


def parse(value: Any) -> Manifest:
    return parse_manifest(json.dumps(value).encode(), "zoo.json")


def changed(*path: str, to: Any) -> dict[str, Any]:
    value = copy.deepcopy(GOOD)
    place = value
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return value


@pytest.mark.parametrize(
    "manifest",
    [
        tiny.manifest(files=FILES),
        tiny.manifest(files=FILES, golden=None, recipe="", input=tiny.XTRANS, output=OutputSpec("rgb", 3, 3)),
        tiny.manifest(files=FILES, precision="int8", created_with={}),
        tiny.manifest(
            files=FILES,
            architecture="timm:resnet18.a1_in1k(classes=10,size=64)",
            input=InputSpec("rgb", 3, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), fixed_size=True),
            output=OutputSpec("logits", 1000),
        ),
        tiny.manifest(
            files=FILES,
            input=InputSpec.of_parts([InputPart("a", "rgb", (3, 8, 8)), InputPart("b", "integer", (), 1, 9)]),
            output=OutputSpec("logits", 10),
        ),
        tiny.manifest(
            files=FILES, input=InputSpec("packed-raw", 4, mosaic="bayer", halo=96, target_level=0.18)
        ),
    ],
)
def test_what_is_written_is_read_again(manifest: Manifest) -> None:
    assert parse_manifest(manifest.to_json().encode(), "zoo.json") == manifest


def test_a_newer_format_names_both_versions_and_the_upgrade() -> None:
    with pytest.raises(IntegrityError) as caught:
        parse({"format": 2, "whatever": []})
    assert "format 2" in caught.value.message
    assert f"compression-zoo {__version__} reads formats up to 1" in caught.value.message
    assert caught.value.hint == "Upgrade with, in your clone of compression-zoo:  git pull && pip install ."


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (changed("format", to=True), "'format' must be a whole number"),
        (changed("format", to=0), "'format' must be a whole number"),
        (changed("fingerprint", to="sha256:xyz"), "'fingerprint' is malformed"),
        (changed("architecture", to="../x"), "'architecture' is malformed"),
        (changed("recipe", to=5), "'recipe' must be text, not 5"),
        (changed("input", to=[]), "'input' must be a table"),
        (
            changed("input", "kind", to="raw"),
            "'input.kind' must be one of packed-raw, rgb, gray, tensor, not 'raw'",
        ),
        (changed("input", "kind", to=[]), "'input.kind' must be one of"),
        (changed("input", "channels", to=3), "is inconsistent"),
        (changed("input", "channels", to=1.5), "'input.channels' must be a whole number"),
        (changed("input", "mosaic", to=None), "is inconsistent"),
        (changed("input", "example", to=[32]), "two whole numbers"),
        (changed("input", "example", to=[32, True]), "two whole numbers"),
        (changed("input", "example", to=[32, 33]), "must contain multiples of 2"),
        (changed("input", "example", to=[32, 10**9]), "between 1 and 65536"),
        (changed("input", "mean", to=[0.5]), "one mean and one deviation"),
        (changed("input", "halo", to=-1), "'input.halo' must be a whole number from 0"),
        (changed("input", "target_level", to=0), "'input.target_level' must be a number from 0.001 to 1"),
        (changed("input", "chanels", to=4), "unknown key 'chanels'; did you mean 'channels'"),
        (changed("output", "scale", to=0), "scale of at least 1"),
        (changed("golden", "min_psnr", to=1e9), "'golden.min_psnr' must be a number"),
        (changed("golden", "file", to="other"), "names other, which is not among the files"),
        (changed("files", "model.onnx", to={"sha256": "a" * 64}), "'files.model.onnx.size' is missing"),
        (changed("files", "model.onnx", "sha256", to="A" * 64), "malformed"),
        (changed("files", "model.onnx", "size", to=-1), "must be a whole number from 0"),
        (changed("files", "model.onnx", "size", to=1 << 31), "2,147,483,648 bytes, 2 GiB or more"),
        (changed("files", "a", to={"sha256": "a" * 64, "size": 1 << 40}), "'files.a.size' must be"),
        (changed("files", "model.onnx", "url", to="http://x"), "unknown key 'url'"),
        (changed("created_with", to={"zoo": 1}), "'created_with.zoo' must be text"),
        (changed("created_with", to={str(n): "1" for n in range(101)}), "holds 101 entries"),
        (changed("recipe", to="x" * 5000), "longer than 4096"),
    ],
)
def test_a_wrong_value_is_refused_by_its_place(value: Any, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        parse(value)


@pytest.mark.parametrize("key", [key for key in GOOD if key not in ("golden", "created_with", "task")])
def test_a_missing_key_is_named(key: str) -> None:
    value = {k: v for k, v in GOOD.items() if k != key}
    with pytest.raises(IntegrityError, match=f"'{key}' is missing"):
        parse(value)


@pytest.mark.parametrize(
    "name",
    ["../a", "/a", "C:\\a", "a\0b", "a" * 300, "nul", "zoo.json", "ZOO.JSON", "MODEL.onnx", "model.onnx/x"],
)
def test_hostile_file_names_are_refused(name: str) -> None:
    with pytest.raises(IntegrityError):
        parse(changed("files", name, to={"sha256": "a" * 64, "size": 1}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b'{"format": 1, "format": 1}',
        b'{"format": NaN}',
        b'{"format": 1e999}',
        b'{"format": ' + b"9" * 5000 + b"}",
        b"null",
        b"1",
    ],
)
def test_bytes_that_are_no_manifest_are_refused(content: bytes) -> None:
    with pytest.raises(IntegrityError, match=r"^zoo\.json"):
        parse_manifest(content, "zoo.json")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_escape_as_anything_but_a_zoo_error(content: bytes) -> None:
    with pytest.raises(ZooError):
        parse_manifest(content, "zoo.json")


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_change_of_a_good_manifest_escapes_as_anything_but_a_zoo_error(data: st.DataObject) -> None:
    value = copy.deepcopy(GOOD)
    place = value
    key = data.draw(st.sampled_from(sorted(place)))
    while isinstance(place[key], dict) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place)))
    place[key] = data.draw(json_values)
    try:
        manifest = parse(value)
    except ZooError as error:
        str(error).encode()  # it can be shown
    else:
        assert parse_manifest(manifest.to_json().encode(), "zoo.json") == manifest


PART = {"name": "a", "kind": "tensor", "shape": [3, 8, 8], "low": 0.0, "high": 1.0}
PARTS: dict[str, Any] = {
    "kind": "tensor", "mosaic": None, "white_balance": False, "channels": 3, "example": [8, 8], "multiple_of": 1,
    "halo": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([PART, PART], "twice"),
        ([{**PART, "name": "output"}], "twice, or one that means something else"),
        ([{**PART, "name": "a/b"}], "input.parts"),
        ([{**PART, "shape": [3, 8, 1 << 40]}], "numbers"),
        ([{**PART, "shape": [3, 0, 8]}], "numbers"),
        ([{**PART, "shape": [4, 8, 8]}], "not those of its parts"),
        ([{**PART, "low": 2.0}], "least value"),
    ],
)
def test_several_inputs_must_be_what_their_array_holds(parts: list[Any], said: str) -> None:
    takes = {**GOOD["input"], **PARTS}
    assert parse(changed("input", to={**takes, "parts": [PART]})).input.parts[0].name == "a"
    with pytest.raises(IntegrityError, match=said):
        parse(changed("input", to={**takes, "parts": parts}))


@pytest.mark.parametrize("name", ["bee", "ä b", "x" * 200, "", "x" * 201, "\x1b[2J", "a\nb", "\u202egnp"])
def test_names_of_classes_that_a_manifest_refuses_are_refused_before_any_work(name: str) -> None:
    def refused(work: Callable[[], object], kind: type[ZooError]) -> bool:
        try:
            work()
        except kind:
            return True
        return False

    before = refused(lambda: check_class_names([name], "folder(root=x)"), InputError)
    assert before == refused(lambda: parse({**GOOD, "classes": [name]}), IntegrityError)
    assert before == (not name.isprintable() or len(name) > 200)
