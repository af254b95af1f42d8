"""zoo.json: what an artifact is, which files it has, and what a runner needs to know about the network."""

# Annotations are not postponed: opening an artifact would have to evaluate their texts, which takes a millisecond.
import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated

from zoo.contracts import InputSpec, OutputSpec
from zoo.contracts.limits import PLUGIN_ID, Key, Limits, Sha256
from zoo.errors import InputError, IntegrityError
from zoo.schema import StrictTable, parse_json, read
from zoo.storage.safe_names import clashing_names, unsafe_name

#: The version of the artifact format that this program writes, and the newest it reads.
FORMAT = 1
MANIFEST_NAME = "zoo.json"
MODEL_NAME = "model.onnx"
#: The model card goes wherever the network goes: it says what may be done with it.
CARD_NAME = "README.md"
#: What the Hub counts downloads by; see :mod:`zoo.artifacts.hub_config`.
CONFIG_NAME = "config.json"
LARGEST_MANIFEST = 1 << 20
_MOST_FILES = 1000
_MOST_OUTPUTS = 64
OUTPUT_NAME = re.compile(r"[a-z0-9_]{1,100}")
#: Fields of the specs that the first runners do not know.
_LATER = {"noise_planes", "colors", "parts"}
#: What is read to be verified, in minutes at most; no ONNX file is larger than 2 GiB.
_LARGEST_FILE, _LARGEST_MODEL = 1 << 36, 1 << 31
_LONGEST_CLASS = 200
#: Numbers in all inputs of a network together.
_MOST_NUMBERS = 1 << 26
#: Endings of what systems, Python or an engine can execute.
_PROGRAMS = {
    ".bash", ".bat", ".cmd", ".com", ".dll", ".dylib", ".exe", ".jar", ".js", ".msi", ".ps1", ".py", ".pyc", ".pyd",
    ".pyw", ".pyz", ".sh", ".so", ".vbs",
}  # fmt: skip
#: The id of an architecture, with the member of a family after a colon, and its options: timm:resnet18(classes=10).
ArchitectureId = Annotated[
    str,
    Limits(
        most=150,
        pattern=PLUGIN_ID + r"(:[A-Za-z0-9._:/@-]{1,100}(\([a-z]{1,20}=\d{1,9}(,[a-z]{1,20}=\d{1,9})*\))?)?",
    ),
]
Fingerprint = Annotated[str, Limits(pattern=r"sha256:[0-9a-f]{64}")]


@dataclass(frozen=True)
class FileEntry:
    """A file of an artifact.

    Attributes:
        sha256: In hexadecimal.
        size: In bytes.
    """

    sha256: Sha256
    size: Annotated[int, Limits(0, _LARGEST_FILE)]


#: The files of an artifact by name.
Files = Annotated[Mapping[str, FileEntry], Limits(most=_MOST_FILES), Key(required=True)]


@dataclass(frozen=True)
class GoldenCheck:
    """The stored inputs and outputs, and how near (PSNR in dB) an engine must come to them."""

    file: str
    min_psnr: Annotated[float, Limits(0, 200)]


@dataclass(frozen=True)
class Manifest:
    """The content of zoo.json.

    Attributes:
        architecture: Id, with the member of a family after a colon.
        recipe: Canonical form, "" for none.
        fingerprint: "sha256:" and the digest over recipe, plugin versions, data and starting weights.
        input: The input of the network.
        output: The output of the network.
        extra_outputs: The other outputs of model.onnx by name, for networks that have several.
        task: The id of its task; "" in artifacts from before there were tasks.
        classes: The names of the classes by their index; empty if they are not known.
        precision: The arithmetic: "float32", "int8", "int4", "fixed-point w0.4 a6.0", ...
        files: Every file of the artifact except zoo.json itself.
        golden: None if the artifact holds no golden outputs.
        created_with: Versions of the programs that made it, for information only.
    """

    architecture: ArchitectureId
    recipe: str
    fingerprint: Fingerprint
    input: InputSpec
    output: OutputSpec
    extra_outputs: Annotated[Mapping[str, OutputSpec], Limits(most=_MOST_OUTPUTS)] = field(
        default_factory=dict
    )
    task: Annotated[str, Limits(most=32, pattern=f"({PLUGIN_ID})?")] = ""
    classes: Annotated[tuple[Annotated[str, Limits(most=_LONGEST_CLASS)], ...], Limits(most=1 << 16)] = ()
    precision: Annotated[str, Limits(most=32, pattern=r"[a-z][a-z0-9. -]{1,31}"), Key(required=True)] = (
        "float32"
    )
    files: Files = field(default_factory=dict)
    golden: GoldenCheck | None = None
    created_with: Annotated[Mapping[str, Annotated[str, Limits(most=100)]], Limits(most=100)] = field(
        default_factory=dict
    )

    def to_json(self) -> str:
        """Return the text of zoo.json."""
        content = {"format": FORMAT, **dataclasses.asdict(self)}
        for optional in ("extra_outputs", "classes"):
            if not content[optional]:
                del content[optional]
        _omit_defaults(content["input"], InputSpec)
        for output in (content["output"], *content.get("extra_outputs", {}).values()):
            _omit_defaults(output, OutputSpec)
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def _omit_defaults(content: dict[str, object], spec: type) -> None:
    """Leave out what older runners do not know, unless it matters."""
    defaults = {field.name: field.default for field in dataclasses.fields(spec)}
    for name in _LATER & content.keys():
        if content[name] == defaults[name]:
            del content[name]


def parse_manifest(content: bytes, source: str) -> Manifest:
    """Read zoo.json.

    Raises:
        IntegrityError: Anything is not exactly as it should be; the message names `source` and the place.
    """
    table = StrictTable(parse_json(content, source, error=IntegrityError), source, error=IntegrityError)
    table.check_format("artifact", FORMAT)
    manifest = read(Manifest, table)
    _check_architecture(table, manifest.architecture)
    _check_input(table, manifest.input)
    _check_parts(table, manifest.input, manifest.extra_outputs)
    _check_output(table, manifest.output, "output")
    if manifest.output.colors == "camera" and not manifest.input.mosaic:
        table.refuse("needs RAW input for camera colours", "output.colors")
    for name, spec in manifest.extra_outputs.items():
        if not OUTPUT_NAME.fullmatch(name) or name in ("input", "output"):
            table.refuse("holds a malformed name of an output", "extra_outputs")
        _check_output(table, spec, f"extra_outputs.{name}")
    check_file_names(table, manifest.files)
    clash = clashing_names([MANIFEST_NAME, *manifest.files])
    if clash:
        table.refuse(f"lists {clash[1]}, which is the manifest itself or hides it", "files")
    if MODEL_NAME not in manifest.files:
        table.refuse(f"lists no {MODEL_NAME}, without which an artifact is none", "files")
    if manifest.files[MODEL_NAME].size >= _LARGEST_MODEL:
        table.refuse(
            f"lists a {MODEL_NAME} of {manifest.files[MODEL_NAME].size:,} bytes, 2 GiB or more", "files"
        )
    if manifest.golden and manifest.golden.file not in manifest.files:
        table.refuse(f"names {manifest.golden.file}, which is not among the files", "golden.file")
    return manifest


def needed_by_runner(manifest: Manifest) -> frozenset[str]:
    """Return the files that every device needs to run an artifact: not the weights for further training, no images.

    The golden outputs are among them, so that nobody skips the check by omitting them, and so is what the Hub counts
    downloads by.
    """
    golden = {manifest.golden.file} if manifest.golden else set()
    return frozenset(
        {MANIFEST_NAME, MODEL_NAME, *({CARD_NAME, CONFIG_NAME} & manifest.files.keys()), *golden}
    )


def check_class_names(names: Iterable[str], source: str) -> None:
    """Refuse names of classes that no manifest may hold; call it before long work.

    Args:
        names: The names.
        source: Where they are from, for the message.

    Raises:
        InputError: One is too long, or holds what commands a terminal.
    """
    for name in names:
        if len(name) > _LONGEST_CLASS or not name.isprintable():
            raise InputError(
                f"{source} has a class called {ascii(name)[:80]}, which no artifact can hold.",
                hint=f"Rename it: at most {_LONGEST_CLASS} characters, all of them printable.",
            )


def check_file_names(table: StrictTable, names: Iterable[str]) -> None:
    """Refuse names of `files` that lead out of the folder, are those of programs, or mean one file on some system."""
    names = list(names)
    for name in names:
        reason = unsafe_name(name) or ("it is that of a program" if _is_program(name) else None)
        if reason:
            table.refuse(f"holds the file name {ascii(name)[:80]}, which is refused: {reason}", "files")
    clash = clashing_names(names)
    if clash:
        table.refuse(
            f"contains names that some systems treat as one file: {clash[0]!a}, {clash[1]!a}", "files"
        )


def _is_program(name: str) -> bool:
    """Whether something might execute a file of this name, if only because a recipe or a user names it."""
    return PurePosixPath(name.lower()).suffix in _PROGRAMS or ".so." in name.lower()


def _check_architecture(table: StrictTable, name: str) -> None:
    """Refuse the id of a user's own file, which is executed where it is named, unless it leads to no file."""
    if name.startswith("module:") and not re.fullmatch(r"module:[A-Za-z0-9._-]+:\w+@[0-9a-f]{12}", name):
        table.refuse("names a file to execute", "architecture")


def _check_input(table: StrictTable, spec: InputSpec) -> None:
    expected = {"bayer": 4, "xtrans": 9, None: 1 if spec.kind == "gray" else 3}[
        spec.mosaic
    ] + spec.noise_planes
    if spec.noise_planes not in (0, 4) or (spec.noise_planes and not (spec.mosaic and spec.white_balance)):
        table.refuse("has noise planes that no RAW pipeline makes", "input.noise_planes")
    if spec.kind == "tensor" and spec.mosaic is None:
        expected = spec.channels
    if (spec.kind == "packed-raw") != (spec.mosaic is not None) or spec.channels != expected:
        table.refuse("is inconsistent: kind, mosaic and channels do not match", "input")
    if not {len(spec.mean), len(spec.std)} <= {0, spec.channels} or len(spec.mean) != len(spec.std):
        table.refuse("needs one mean and one deviation per channel, or none", "input")
    if any(side % spec.multiple_of for side in spec.example):
        table.refuse(f"must contain multiples of {spec.multiple_of}", "input.example")


def _check_parts(table: StrictTable, spec: InputSpec, extras: Iterable[str]) -> None:
    if not spec.parts:
        return
    names = [part.name for part in spec.parts]
    if len(set(names)) < len(names) or {"output", *extras} & set(names):
        table.refuse("holds a name of an input twice, or one that means something else", "input.parts")
    numbers = [math.prod(part.shape) for part in spec.parts]
    if not all(0 < each <= _MOST_NUMBERS for each in numbers) or sum(numbers) > _MOST_NUMBERS:
        table.refuse(f"must hold inputs of 1 to {_MOST_NUMBERS:,} numbers", "input.parts")
    if any(part.low > part.high for part in spec.parts):
        table.refuse("must hold inputs whose least value is not above the greatest", "input.parts")
    packing = spec.packing
    if spec.kind != "tensor" or (spec.channels, *spec.example) != (packing.channels, *packing.sides):
        table.refuse("is inconsistent: kind, channels and example are not those of its parts", "input")
    if not (packing.planes or spec.fixed_size):
        table.refuse("must be of a fixed size, since its parts are", "input")


def _check_output(table: StrictTable, spec: OutputSpec, place: str) -> None:
    channels = {"rgb": 3, "gray": 1}.get(spec.kind)
    if channels not in (None, spec.channels) or (channels and spec.scale < 1):
        count = "one channel" if channels == 1 else "three channels"
        table.refuse(f"needs {count} and a scale of at least 1 for an image", place)
    if spec.dense and spec.scale < 1:
        table.refuse("needs a scale of at least 1 for a mask", place)
