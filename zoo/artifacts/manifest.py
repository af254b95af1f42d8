"""zoo.json: what an artifact is, which files it has, and what a runner must know of the network."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal, cast

from zoo.contracts import InputSpec, OutputSpec
from zoo.errors import IntegrityError
from zoo.schema import Fields, parse_json
from zoo.storage.safe_names import clashing_names, unsafe_name

#: The version of the artifact format that this program writes, and the newest it reads.
FORMAT = 1
MANIFEST_NAME = "zoo.json"
MODEL_NAME = "model.onnx"
#: The model card goes wherever the network goes: it says what may be done with it.
CARD_NAME = "README.md"
LARGEST_MANIFEST = 1 << 20
_MOST_FILES = 1000
_LARGEST_SIDE = 1 << 16
_LARGEST_FILE = 1 << 40
#: Endings of what systems, Python or an engine can execute.
_PROGRAMS = {
    ".bash", ".bat", ".cmd", ".com", ".dll", ".dylib", ".exe", ".jar", ".js", ".msi", ".ps1", ".py", ".pyc", ".pyd",
    ".pyw", ".pyz", ".sh", ".so", ".vbs",
}  # fmt: skip
ARCHITECTURE = r"[a-z][a-z0-9-]{1,31}(:[A-Za-z0-9._:/@-]{1,100})?"
FINGERPRINT = r"sha256:[0-9a-f]{64}"


@dataclass(frozen=True)
class FileEntry:
    """sha256 in hexadecimal and size in bytes of a file."""

    sha256: str
    size: int


@dataclass(frozen=True)
class GoldenCheck:
    """The stored inputs and outputs, and how near (PSNR in dB) an engine must come to them."""

    file: str
    min_psnr: float


@dataclass(frozen=True)
class Manifest:
    """The content of zoo.json.

    architecture: id, with the member of a family after a colon. recipe: canonical form, "" for none.
    fingerprint:  "sha256:" and the digest over recipe, plugin versions, data and starting weights.
    precision:    what the network computes in: "float32", "int8", "int4", "fixed-point w0.4 a6.0", ...
    files:        every file of the artifact except zoo.json itself.
    golden:       None if the artifact holds no golden outputs.
    created_with: versions of the programs that made it, for information only.
    """

    architecture: str
    recipe: str
    fingerprint: str
    input: InputSpec
    output: OutputSpec
    precision: str = "float32"
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    golden: GoldenCheck | None = None
    created_with: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of zoo.json."""
        content = {"format": FORMAT, **dataclasses.asdict(self)}
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def parse_manifest(content: bytes, source: str) -> Manifest:
    """Read zoo.json. Raises IntegrityError, naming `source`, for anything not exactly as it should be."""
    fields = Fields(parse_json(content, source, error=IntegrityError), source, error=IntegrityError)
    fields.check_format("artifact", FORMAT)
    manifest = Manifest(
        architecture=_architecture(fields),
        recipe=fields.text("recipe"),
        fingerprint=fields.text("fingerprint", pattern=FINGERPRINT),
        input=_input_spec(fields.table("input")),
        output=_output_spec(fields.table("output")),
        precision=fields.text("precision", pattern=r"[a-z][a-z0-9. -]{1,31}", longest=32),
        files=file_entries(fields.table("files")),
        golden=_golden(fields),
        created_with=fields.table("created_with", {}).texts(most=100, longest=100),
    )
    fields.close()
    clash = clashing_names([MANIFEST_NAME, *manifest.files])
    if clash:
        fields.refuse(f"lists {clash[1]}, which is the manifest itself or hides it", "files")
    if manifest.golden and manifest.golden.file not in manifest.files:
        fields.refuse(f"names {manifest.golden.file}, which is not among the files", "golden.file")
    return manifest


def needed_by_runner(manifest: Manifest) -> frozenset[str]:
    """The files of an artifact without which no device runs it: not the weights for training further, no pictures.

    The golden outputs are among them, so that nobody skips the check by leaving them out.
    """
    golden = {manifest.golden.file} if manifest.golden else set()
    return frozenset({MANIFEST_NAME, *({MODEL_NAME, CARD_NAME} & manifest.files.keys()), *golden})


def file_entries(table: Fields) -> dict[str, FileEntry]:
    """A table of file names, each with sha256 and size. Names out of the folder, and of programs, are refused."""
    entries = {}
    for name, entry in table.tables(most=_MOST_FILES).items():
        reason = unsafe_name(name) or ("it is that of a program" if _is_program(name) else None)
        if reason:
            table.refuse(f"holds the file name {ascii(name)[:80]}, which is refused: {reason}")
        entries[name] = FileEntry(entry.sha256("sha256"), entry.integer("size", most=_LARGEST_FILE))
        entry.close()
    clash = clashing_names(entries)
    if clash:
        table.refuse(f"holds names that some systems take for one file: {clash[0]!a}, {clash[1]!a}")
    return entries


def _is_program(name: str) -> bool:
    """Whether something might execute a file of this name, if only because a recipe or a user names it."""
    return PurePosixPath(name.lower()).suffix in _PROGRAMS or ".so." in name.lower()


def _architecture(fields: Fields) -> str:
    """The id. That of a user's own file, which is executed where it is named, must be one that leads to no file."""
    name = fields.text("architecture", pattern=ARCHITECTURE, longest=150)
    if name.startswith("module:") and not re.fullmatch(r"module:[A-Za-z0-9._-]+:\w+@[0-9a-f]{12}", name):
        fields.refuse("names a file to execute", "architecture")
    return name


def _golden(fields: Fields) -> GoldenCheck | None:
    if fields.get("golden", None) is None:
        return None
    golden = fields.table("golden")
    check = GoldenCheck(golden.text("file"), golden.number("min_psnr", least=0, most=200))
    golden.close()
    return check


def _input_spec(fields: Fields) -> InputSpec:
    spec = InputSpec(
        kind=cast(
            'Literal["packed-raw", "rgb", "gray"]', fields.choice("kind", ("packed-raw", "rgb", "gray"))
        ),
        channels=fields.integer("channels", least=1, most=1024),
        multiple_of=fields.integer("multiple_of", 1, least=1, most=1024),
        example=_side_lengths(fields, "example"),
        fixed_size=fields.boolean("fixed_size", False),
        mosaic=_mosaic(fields),
        white_balance=fields.boolean("white_balance", False),
        mean=fields.numbers("mean", longest=1024),
        std=fields.numbers("std", longest=1024),
        halo=None if fields.get("halo", None) is None else fields.integer("halo", most=_LARGEST_SIDE),
        target_level=_target_level(fields),
    )
    fields.close()
    expected = {"bayer": 4, "xtrans": 9, None: 1 if spec.kind == "gray" else 3}[spec.mosaic]
    if (spec.kind == "packed-raw") != (spec.mosaic is not None) or spec.channels != expected:
        fields.refuse("does not fit together: kind, mosaic and channels")
    if not {len(spec.mean), len(spec.std)} <= {0, spec.channels} or len(spec.mean) != len(spec.std):
        fields.refuse("needs as many means and deviations as there are channels, or none")
    if any(side % spec.multiple_of for side in spec.example):
        fields.refuse(f"must hold multiples of {spec.multiple_of}", "example")
    return spec


def _output_spec(fields: Fields) -> OutputSpec:
    spec = OutputSpec(
        kind=cast('Literal["rgb", "mask", "logits"]', fields.choice("kind", ("rgb", "mask", "logits"))),
        channels=fields.integer("channels", least=1, most=1 << 20),
        scale=fields.integer("scale", 0, most=64),
    )
    fields.close()
    if spec.kind == "rgb" and (spec.channels != 3 or spec.scale < 1):
        fields.refuse("needs three channels and a scale of at least 1 for a picture")
    if spec.kind == "mask" and spec.scale < 1:
        fields.refuse("needs a scale of at least 1 for a mask")
    return spec


def _side_lengths(fields: Fields, key: str) -> tuple[int, int]:
    sides: Any = fields.get(key)
    if not (isinstance(sides, list) and len(sides) == 2 and all(type(side) is int for side in sides)):
        fields.refuse("must be a list of two whole numbers, height and width", key)
    if not all(1 <= side <= _LARGEST_SIDE for side in sides):
        fields.refuse(f"must be between 1 and {_LARGEST_SIDE} pixels a side", key)
    return sides[0], sides[1]


def _mosaic(fields: Fields) -> Literal["bayer", "xtrans"] | None:
    if fields.get("mosaic", None) is None:
        return None
    return cast('Literal["bayer", "xtrans"]', fields.choice("mosaic", ("bayer", "xtrans")))


def _target_level(fields: Fields) -> float | None:
    if fields.get("target_level", None) is None:
        return None
    return fields.number("target_level", least=0.001, most=1)
