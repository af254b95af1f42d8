"""The files that the engines benchmark compares: the shipped `unet` in float32 and, by three tools, in int8.

All tools get the same trained weights and the same calibration crops. Files that are there already are kept.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from zoo import plugins
from zoo.contracts import Context
from zoo.data.calibration import CALIBRATION_BATCHES, calibration_crops
from zoo.data.darkroom import Darkroom, DarkroomConfig
from zoo.export.exporter import export_onnx
from zoo.quantization.lowering import lower_operators
from zoo.surgery import propagate_shapes, trace
from zoo.training.weights import load_start

NET = "unet"
#: as `zoo apply ptq` calibrates: 8 batches of 4 crops
BATCH, SIDE = 4, 128


def make_files(folder: Path, photos: tuple[str, ...]) -> dict[str, Path]:
    """The files by what made them: "float", "zoo", "onnxruntime" and, if it is installed, "nncf"."""
    folder.mkdir(parents=True, exist_ok=True)
    makers = {
        "float": ("unet-float32.onnx", _float),
        "zoo": ("unet-int8-zoo.onnx", _zoo),
        "onnxruntime": ("unet-int8-onnxruntime.onnx", _onnxruntime),
        "nncf": ("unet-int8-nncf.xml", _nncf),
    }
    crops = _Crops(photos)
    found = {}
    for name, (file, make) in makers.items():
        path = folder / file
        if not path.exists():
            try:
                make(path, crops, folder / "unet-float32.onnx")
            except ModuleNotFoundError as error:
                print(f"no file of {name}: the package {error.name} is not installed")
                continue
        found[name] = path
    return found


class _Crops:
    """The calibration crops, made when first asked for. Batches of (BATCH, 4, SIDE, SIDE)."""

    def __init__(self, photos: tuple[str, ...]) -> None:
        self._photos = photos
        self._batches: list[np.ndarray] = []

    def batches(self) -> list[np.ndarray]:
        if not self._batches:
            dataset = Darkroom(DarkroomConfig(photos=self._photos))
            architecture = plugins.architecture(NET)
            crops = [
                each.inputs
                for each in calibration_crops(dataset, architecture, SIDE, 0, BATCH * CALIBRATION_BATCHES)
            ]
            self._batches = [np.stack(crops[k : k + BATCH]) for k in range(0, len(crops), BATCH)]
        return self._batches


def _trained() -> torch.nn.Module:
    architecture = plugins.architecture(NET)
    net = architecture.build().eval()
    load_start(net, architecture, NET)
    return net


def _float(path: Path, crops: _Crops, _: Path) -> None:
    export_onnx(_trained(), plugins.architecture(NET), path)


def _zoo(path: Path, crops: _Crops, _: Path) -> None:
    """What `zoo apply 'ptq(observer=minmax)' unet` exports: the other tools take least and largest values too."""
    inputs = [torch.from_numpy(batch) for batch in crops.batches()]
    context = Context(plugins.architecture(NET), inputs[0][:1], calibration=lambda: iter(inputs))
    technique = plugins.technique("ptq", {"observer": "minmax"})
    net = technique.finish(technique.rewrite(_trained(), context).eval(), context)
    export_onnx(net, context.architecture, path)


def _onnxruntime(path: Path, crops: _Crops, _: Path) -> None:
    """ONNX Runtime's own static quantization, of a file whose transposed convolutions are already rewritten."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches: Iterator[np.ndarray] = iter(crops.batches())

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"input": batch}

    architecture = plugins.architecture(NET)
    context = Context(architecture, torch.from_numpy(crops.batches()[0][:1]))
    module = trace(copy.deepcopy(_trained()), context.example_input)
    propagate_shapes(module, context.example_input)
    lower_operators(module, partial(context.skip_layer, "ptq"))
    rewritten = path.with_name("unet-float32-rewritten.onnx")
    export_onnx(module, architecture, rewritten)
    quantize_static(
        rewritten, path, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip


def _nncf(path: Path, crops: _Crops, source: Path) -> None:
    """NNCF's post-training quantization of OpenVINO's reading of the float file, with its defaults."""
    import nncf
    import openvino

    model = openvino.Core().read_model(source)
    data = nncf.Dataset(crops.batches())
    openvino.save_model(nncf.quantize(model, data), path, compress_to_fp16=False)
