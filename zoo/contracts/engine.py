"""What an engine is: a program that executes an exported network."""

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

    One that takes inputs up to some size only may say so by an attribute `most_side`, their longest side.
    """

    def run(self, inputs: FloatArray) -> FloatArray: ...


class Engine:
    """What executes an artifact's model.onnx. Import the engine's package in :meth:`open`, not before."""

    contract: ClassVar[int] = CONTRACT_VERSION
    id: ClassVar[str]
    summary: ClassVar[str]

    def available(self) -> str | None:
        """None if the engine can run here, else why not, as a sentence."""
        raise NotImplementedError

    def version(self) -> str:
        """Version of the engine's package."""
        raise NotImplementedError

    def open(self, model: Path | bytes, *, threads: int = 0, profile: DeviceProfile | None = None) -> Session:
        """Load a model, as `profile` says the device computes best; None for the engine's own defaults.

        threads: on the processor; 0 for what the profile says, else as many as this process may use. Never start
        more than those: :func:`zoo.machine.processors.thread_count` gives the number. Raises ZooError.
        """
        raise NotImplementedError
