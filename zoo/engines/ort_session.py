"""What every engine that computes through ONNX Runtime shares: finding it, opening a session on it, running it."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.engines.feeds import INPUT_TYPES, check_fed, feeds_of, shape_text
from zoo.engines.patience import opening, running
from zoo.errors import InputError, IntegrityError, PluginError, ZooError
from zoo.extras import install_hint, require
from zoo.machine.processors import thread_count
from zoo.plugins.discovery import version_of

if TYPE_CHECKING:
    from zoo.contracts import DeviceProfile, FloatArray

#: Distributions that bring the module `onnxruntime`; two of them overwrite each other's files.
DISTRIBUTIONS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-qnn",
)
CPU = "CPUExecutionProvider"
#: Names of a provider and its options.
Provider = tuple[str, Mapping[str, str]]


def provider_problem(provider: str = CPU) -> str | None:
    """Return why a provider of ONNX Runtime cannot run here, as far as is known without importing it; else None."""
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None:
        return f"The package 'onnxruntime' is not installed. {install_hint('cpu')}"
    if provider == CPU:
        return None
    library = f"libonnxruntime_providers_{provider.removesuffix('ExecutionProvider').lower()}.so"
    folders = [Path(folder) / "capi" for folder in spec.submodule_search_locations or ()]
    if any((folder / library).is_file() for folder in folders):
        return None
    return f"This build of ONNX Runtime does not include {provider}: {library} is not in its folder 'capi'."


def runtime_version() -> str:
    """Return the version of the package, from its metadata if possible, without importing it."""
    for name in DISTRIBUTIONS:
        version = version_of(name)
        if version:
            return version
    return str(_runtime().__version__)


def _runtime() -> Any:
    """Return the module. Raises MissingDependencyError without it."""
    # It imports numpy from the inside out, which fails while another thread, such as the one that receives decoded
    # files, imports it as usual.
    import numpy  # noqa: F401

    return require("onnxruntime", "Running a network", extra="cpu")


def open_session(
    data: bytes,
    providers: Sequence[Provider],
    *,
    threads: int = 0,
    profile: DeviceProfile | None = None,
    most_side: int | None = None,
    optimized: bool = False,
) -> OnnxRuntimeSession:
    """Return a session of `data` on these providers, best first; what the first cannot compute, the next do.

    ONNX Runtime itself would go on to the next provider without an error where the first does not start.

    Args:
        data: Bytes of the model.
        providers: Best first.
        threads: Of operators on the processor; 0 for those of the profile.
        profile: Of the device.
        most_side: See :class:`OnnxRuntimeSession`.
        optimized: Whether `data` is what :func:`optimize` wrote.

    Raises:
        IntegrityError: ONNX Runtime refuses the model.
        PluginError: The first provider is not the processor's, and it refuses the model or is missing.
    """
    runtime = _runtime()
    wanted = providers[0][0]
    if wanted not in runtime.get_available_providers():
        raise PluginError(f"This build of ONNX Runtime does not include {wanted}.", hint="See:  zoo doctor")
    if wanted != CPU:
        # What its libraries lack, it would tell on standard error as well.
        runtime.set_default_logger_severity(4)
    settings = _options(runtime, threads, profile)
    if optimized:
        settings.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        # What TensorRT builds takes minutes.
        with opening(len(data)) if wanted == CPU else contextlib.nullcontext():
            session = runtime.InferenceSession(
                data,
                settings,
                providers=[name for name, _ in providers],
                provider_options=[dict(options) for _, options in providers],
                # or it would print a remark and go on without the provider
                enable_fallback=0,
            )
    except Exception as error:  # onnxruntime raises a dozen unrelated types
        reason = (
            f"ONNX Runtime cannot load the model{'' if wanted == CPU else f' on {wanted}'}: {_reason(error)}"
        )
        raise (IntegrityError(reason) if wanted == CPU else PluginError(reason)) from error
    check_provider_used(wanted, session.get_providers())
    return OnnxRuntimeSession(session, most_side)


def optimize(data: bytes, path: Path) -> None:
    """Write the graph that ONNX Runtime computes on this processor to `path`, for :func:`open_session`.

    Raises:
        IntegrityError: ONNX Runtime refuses the model.
    """
    runtime = _runtime()
    settings = _options(runtime, 1, None)
    settings.optimized_model_filepath = str(path)
    try:
        with opening(len(data)):
            runtime.InferenceSession(data, settings, providers=[CPU], enable_fallback=0)
    except Exception as error:  # onnxruntime raises a dozen unrelated types
        raise IntegrityError(f"ONNX Runtime cannot load the model: {_reason(error)}") from error
    if not path.is_file():
        raise IntegrityError("ONNX Runtime did not write the optimized model.")


def check_provider_used(wanted: str, used: Sequence[str]) -> None:
    """Check that the wanted provider is among those that a session uses.

    Raises:
        PluginError: It is not.
    """
    if wanted not in used:
        raise PluginError(
            f"ONNX Runtime could not start {wanted} and used {', '.join(used)} instead: "
            "the CUDA, cuDNN or TensorRT libraries are missing, have the wrong version, or find no GPU.",
            hint="See:  zoo doctor",
        )


class OnnxRuntimeSession:
    """A model loaded in ONNX Runtime: float32 (N, C, H, W) in, float32 out.

    A model with several inputs is given the array that holds them; see :class:`zoo.contracts.input_parts.Packing`.

    Args:
        most_side: The longest side of an input that it was built for, None for any.
    """

    def __init__(self, session: Any, most_side: int | None = None) -> None:
        self.most_side = most_side
        self._session = session
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if not inputs or not outputs or any(each.type not in INPUT_TYPES for each in inputs):
            raise IntegrityError(
                f"The model has {len(inputs)} inputs ({', '.join(sorted({each.type for each in inputs}))}) and "
                f"{len(outputs)} outputs; zoo runs models with inputs of float32 or whole numbers."
            )
        self._inputs, self._outputs = inputs, [output.name for output in outputs]

    def run(self, inputs: FloatArray) -> FloatArray:
        """Run one batch.

        Args:
            inputs: (N, C, H, W).

        Returns:
            The main output, (N, C, H, W) or (N, classes).

        Raises:
            InputError: The network does not take the shape.
            ZooError: The engine fails.
        """
        return self._run(inputs, self._outputs[:1])[0]

    def run_all(self, inputs: FloatArray) -> dict[str, FloatArray]:
        """Run one batch and return all outputs by name; arguments and errors are those of :meth:`run`.

        Args:
            inputs: (N, C, H, W).
        """
        return dict(zip(self._outputs, self._run(inputs, self._outputs), strict=True))

    def _run(self, inputs: FloatArray, names: Sequence[str]) -> list[FloatArray]:
        import numpy as np

        arrays = self._checked(inputs)
        try:
            with running(inputs.shape):
                outputs = self._session.run(list(names), arrays)
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            raise _failed(inputs.shape, error) from error
        return [np.asarray(output, dtype=np.float32) for output in outputs]

    def _checked(self, inputs: FloatArray) -> dict[str, FloatArray]:
        """The inputs as the engine takes them, by name. Raises InputError."""
        check_fed(self._inputs, inputs)
        if self.most_side is not None and max(inputs.shape[2:]) > self.most_side:
            raise InputError(
                f"The engine was built for inputs with sides of up to {self.most_side} pixels, not "
                f"{shape_text(inputs.shape)}.",
                hint=f"Use smaller tiles:  --tile {self.most_side}",
            )
        return feeds_of(self._inputs, inputs)


def _failed(shape: tuple[int, ...], error: Exception) -> ZooError:
    return ZooError(f"ONNX Runtime failed on an input of {shape_text(shape)}: {_reason(error)}")


def _options(runtime: Any, threads: int, profile: DeviceProfile | None) -> Any:
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    count = thread_count(threads, profile)
    at_once = min(2, count) if profile is not None and profile.execution == "parallel" else 1
    if at_once > 1:
        options.execution_mode = runtime.ExecutionMode.ORT_PARALLEL
    options.inter_op_num_threads = at_once
    options.intra_op_num_threads = count // at_once
    # Measured on the int8 U-Net at 4 x 512 x 512: the arena alone peaks at 171 MB, with memory patterns at
    # 207 MB, and without an arena at 270 MB and slower, since every buffer is mapped afresh.
    options.enable_mem_pattern = False
    # Threads that wait in a loop keep processors from the one that decodes and those that compress: with two of them
    # `zoo run` takes a tenth longer, one file as well as many, though inference alone is 4 % faster.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = profile is None or profile.arena
    if profile is not None and profile.arena and profile.reserve_mb and _reserve(runtime, profile.reserve_mb):
        options.add_session_config_entry("session.use_env_allocators", "1")
    return options


@functools.cache
def _reserve(runtime: Any, megabytes: int) -> bool:
    """Have all sessions share an arena that begins with so much; False if this build of ONNX Runtime has none.

    An arena that grows by and by is made of pieces between which freed memory does not join. Measured with 1.31 at
    4 x 1024 x 1024: the int8 `lighter-unet` takes 231 MB instead of 312, the float one 670 instead of 1080. It costs
    three per cent of the reservation in tables; the rest only takes addresses until it is used.
    """
    try:
        where = runtime.OrtMemoryInfo(
            "Cpu", runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, runtime.OrtMemType.DEFAULT
        )
        arena = {"initial_chunk_size_bytes": megabytes << 20, "max_dead_bytes_per_chunk": 1 << 20}
        runtime.create_and_register_allocator(where, runtime.OrtArenaCfg(arena))
    except Exception:  # an older build takes no such options, a process can have one shared arena only
        return False
    return True


def _reason(error: Exception) -> str:
    """Return the engine's message without its source locations."""
    text = re.sub(r"^/\S+:\d+ .*?\) ", "", str(error).strip())
    return text.splitlines()[0][:300] if text else type(error).__name__
