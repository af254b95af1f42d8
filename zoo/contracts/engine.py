"""The contract of engines: programs that execute an exported network."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

from zoo.contracts.contract_version import CONTRACT_VERSION

if TYPE_CHECKING:
    from pathlib import Path

    from zoo.contracts.dataset import FloatArray
    from zoo.contracts.device import DeviceProfile


@runtime_checkable
class Session(Protocol):
    """A loaded model: float32 (N, C, H, W) in, float32 out.

    If inputs are limited in size, an attribute `most_side` may state their longest side. A session that runs networks
    with several outputs has a method `run_all`, which returns all of them by name, the main one as "output". The inputs
    of a network with several come as one array, which :func:`zoo.engines.feeds.feeds_of` divides; an engine that knows
    one input only refuses such a model with a ZooError.
    """

    def run(self, inputs: FloatArray) -> FloatArray: ...


class Engine:
    """A program that executes model.onnx. Import the engine's package in :meth:`open`, not before."""

    contract: ClassVar[int] = CONTRACT_VERSION
    id: ClassVar[str]
    summary: ClassVar[str]
    #: Whether a process that computes with it may be limited in addresses. Engines on GPUs map far more than they use.
    limit_addresses: ClassVar[bool] = False
    #: How long it may take to load a small network in a process of its own. Some build programs for a device meanwhile.
    load_seconds: ClassVar[float] = 3600

    def available(self) -> str | None:
        """Return None if the engine can run here, otherwise the reason as a sentence."""
        raise NotImplementedError

    def version(self) -> str:
        """Return the version of the engine's package."""
        raise NotImplementedError

    def open(self, model: Path | bytes, *, threads: int = 0, profile: DeviceProfile | None = None) -> Session:
        """Load a model.

        Args:
            model: The path or the bytes of an ONNX file.
            threads: Threads on the processor; 0 for the number that the profile states, or else all that this
                process may use. Never start more: :func:`zoo.machine.processors.thread_count` returns the number.
            profile: What the device computes best; None for the engine's own defaults.

        Raises:
            ZooError: The model cannot be loaded.
        """
        raise NotImplementedError
