"""From one image to what a person looks at, for outputs that are no images: labels, boxes, classes, numbers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from zoo import plugins
from zoo.artifacts.golden import MAIN_OUTPUT, all_outputs
from zoo.contracts import Task, task_for
from zoo.errors import PluginError, UnknownIdError, UsageError
from zoo.images.pixels import as_input, read_pixels, read_rgb8
from zoo.images.resizing import crop_pct_of, resize_middle
from zoo.runner.array_input import read_arrays
from zoo.runner.named_inputs import read_named
from zoo.storage.atomic import write_bytes_atomic
from zoo.tasks.any_task import AnyTask

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from zoo.artifacts.manifest import Manifest
    from zoo.contracts import FloatArray, InputSpec, OutputSpec
    from zoo.runner.file_result import FileResult
    from zoo.runner.loading import Loaded


#: Kinds of one of several inputs that are images.
_IMAGES = ("rgb", "gray")
#: No inputs are named.
NOTHING: Mapping[str, str] = MappingProxyType({})


def suffix_of(output: OutputSpec) -> str:
    """Return the suffix of the file that an output which is no image is written to; "" for logits."""
    return {"classes": ".png", "boxes": ".png", "logits": ""}.get(output.kind, ".npz")


def task_named(manifest: Manifest) -> Task:
    """Return the task of an artifact; of one that no installed plugin provides, the task of unknown outputs."""
    try:
        return plugins.task(manifest.task or task_for(manifest.input, manifest.output))
    except (PluginError, UnknownIdError):
        return AnyTask()


def show_file(loaded: Loaded, result: FileResult, named: Mapping[str, str] = NOTHING) -> None:
    """Run one image, put what it shows into `result`, and write `result.output` if it is set.

    Args:
        loaded: The network.
        result: Names the file.
        named: What stands for inputs that the file does not hold, see :mod:`zoo.runner.named_inputs`.

    Raises:
        InputError: The file cannot be used.
        OutputError: The output cannot be written.
    """
    manifest = loaded.artifact.manifest
    spec = manifest.output
    if manifest.input.kind == "tensor":
        _show_arrays(loaded, result, named)
        return
    with result.timed("decode"):
        inputs = read_input(result.path, manifest)
    with result.timed("infer"):
        outputs = {
            name: value[0] for name, value in all_outputs(loaded.session, _padded(inputs, manifest)).items()
        }
        main = outputs[MAIN_OUTPUT]
        if spec.dense:
            main = main[:, : inputs.shape[1] * spec.scale, : inputs.shape[2] * spec.scale]
    shown = task_named(manifest).show(main, inputs, spec, manifest.classes)
    result.findings = [dict(row) for row in shown.findings]
    result.others = {
        name: dict(AnyTask().show(value, inputs, manifest.extra_outputs[name]).findings[0])
        for name, value in outputs.items()
        if name in manifest.extra_outputs
    }
    if result.output is None:
        return
    with result.timed("write"):
        write_bytes_atomic(result.output, _png(shown.picture) if shown.picture is not None else _npz(outputs))


def _show_arrays(loaded: Loaded, result: FileResult, named: Mapping[str, str]) -> None:
    """Run the inputs in a file of arrays; where it holds several samples, what is shown says of which it is."""
    manifest = loaded.artifact.manifest
    with result.timed("decode"):
        packed = (
            read_named(result.path, manifest.input, named)
            if named
            else read_arrays(result.path, manifest.input)
        )
    with result.timed("infer"):
        outputs = all_outputs(loaded.session, packed)
    task, picture = task_named(manifest), None
    result.findings = []
    for number, main in enumerate(outputs[MAIN_OUTPUT]):
        image = _image_of(packed[number : number + 1], manifest.input)
        shown = (task if image is not None or manifest.output.kind != "boxes" else AnyTask()).show(
            main, packed[number] if image is None else image, manifest.output, manifest.classes
        )
        picture = shown.picture
        of = {"sample": number} if len(packed) > 1 else {}
        result.findings += [{**of, **row} for row in shown.findings]
    result.others = {
        name: dict(AnyTask().show(value, packed[0], manifest.extra_outputs[name]).findings[0])
        for name, value in outputs.items()
        if name in manifest.extra_outputs
    }
    if result.output is None:
        return
    with result.timed("write"):
        as_picture = picture is not None and result.output.suffix == ".png" and len(packed) == 1
        write_bytes_atomic(
            result.output, _png(picture) if as_picture and picture is not None else _npz(outputs)
        )


def _image_of(packed: FloatArray, spec: InputSpec) -> FloatArray | None:
    """The first of several inputs that is an image, (C, H, W); None if none is."""
    arrays = spec.packing.unpack(packed) if spec.parts else []
    return next(
        (array[0] for array, part in zip(arrays, spec.parts, strict=True) if part.kind in _IMAGES), None
    )


def read_input(path: Path, manifest: Manifest) -> FloatArray:
    """Return an image as the input of a network, (C, H, W) in [0, 1], upright.

    For classifiers, and for networks of a fixed size, it is resized and cut to the middle as for evaluation.

    Raises:
        InputError: The file cannot be read.
        UsageError: The network expects RAW files.
    """
    spec = manifest.input
    if spec.kind == "packed-raw":
        raise UsageError(
            "Networks that expect RAW files are only run where their output is an image or a mask."
        )
    if not spec.fixed_size and manifest.output.kind != "logits":
        return as_input(read_pixels(path, upright=True), spec, path)
    middle = resize_middle(
        read_rgb8(path), spec.example, crop_pct_of(spec.crop_pct or 1.0, spec.example), spec.interpolation
    )
    return as_input(middle, spec, path)


def _padded(inputs: FloatArray, manifest: Manifest) -> FloatArray:
    """Return (1, C, H, W), mirrored beyond its lower and right edge up to what the network accepts."""
    import numpy as np

    height, width = inputs.shape[1:]
    multiple = manifest.input.multiple_of
    return np.pad(inputs, ((0, 0), (0, -height % multiple), (0, -width % multiple)), mode="symmetric")[None]


def _png(picture: npt.NDArray[np.uint8]) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG")
    return buffer.getvalue()


def _npz(outputs: dict[str, FloatArray]) -> bytes:
    """Return all outputs as a NumPy archive."""
    import io
    import zipfile

    import numpy as np

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, value in outputs.items():
            with archive.open(f"{name}.npy", "w") as file:
                np.lib.format.write_array(file, value)
    return buffer.getvalue()
