"""A session whose outputs are held against the manifest before anything is made of them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Protocol

from zoo.artifacts.golden import MAIN_OUTPUT, all_outputs
from zoo.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import numpy.typing as npt

    from zoo.contracts import FloatArray, OutputSpec, Session


def output_shape(output: OutputSpec, inputs: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape of the output for an input of (N, C, H, W); None if the specification leaves it open."""
    if output.kind == "logits":
        return (inputs[0], output.channels)
    if output.scale < 1:
        return None
    return (inputs[0], output.channels, output.scale * inputs[2], output.scale * inputs[3])


class Finish(Protocol):
    """What is made of rows of a picture: a function of (C, rows, columns) that gives (rows, columns, C)."""

    @property
    def dtype(self) -> str:
        """Return the type of what is made."""

    def described(self) -> dict[str, object]:
        """Return what JSON can hold: "target", the "package.module:function" that makes it again from all of this."""

    def __call__(self, rows: FloatArray, /) -> npt.NDArray[Any]: ...


class CheckedSession:
    """Runs a session, and refuses an output of another shape or type than the manifest states.

    Args:
        session: The session.
        output: What the manifest states of the main output.
        extras: What it states of the others, by name; None for none.
    """

    def __init__(
        self, session: Session, output: OutputSpec, extras: Mapping[str, OutputSpec] | None = None
    ) -> None:
        self._session, self._output, self._extras = session, output, dict(extras or {})

    @property
    def most_side(self) -> int | None:
        """Return the longest side of an input that the session takes, None for any."""
        side: int | None = getattr(self._session, "most_side", None)
        return side

    @property
    def peak_bytes(self) -> int:
        """Return the most memory that a process of the session's own has held; 0 if it has none."""
        return getattr(self._session, "peak_bytes", 0)

    def close(self) -> None:
        """End the session's own process, if it has one."""
        close = getattr(self._session, "close", None)
        if close is not None:
            close()

    def run(self, inputs: FloatArray) -> FloatArray:
        """Run one batch.

        Args:
            inputs: (N, C, H, W).

        Raises:
            IntegrityError: The output is not what the manifest states, or logits are not finite.
            ZooError: The session fails.
        """
        return self._checked(self._session.run(inputs), inputs, self._output)

    def run_all(self, inputs: FloatArray) -> dict[str, FloatArray]:
        """Run one batch and return all outputs by name; errors are those of :meth:`run`.

        Args:
            inputs: (N, C, H, W).
        """
        found = all_outputs(self._session, inputs)
        stated = {MAIN_OUTPUT: self._output, **self._extras}
        if list(found)[1:] == list(self._extras):
            found = dict(
                zip(stated, found.values(), strict=True)
            )  # in a file from elsewhere it has another name
        missing = [name for name in stated if name not in found]
        if missing:
            raise IntegrityError(
                f"The network does not return the output '{missing[0]}' that its zoo.json states, or its engine "
                "runs no networks with several outputs.",
                hint="Try another engine:  zoo list engines",
            )
        return {name: self._checked(found[name], inputs, spec) for name, spec in stated.items()}

    def run_rows(
        self,
        source: Iterable[FloatArray],
        shape: tuple[int, ...],
        rows: slice,
        columns: slice,
        at_once: int,
        finish: Finish,
    ) -> Iterator[npt.NDArray[Any]]:
        """Run one input, and return what is made of a window of its picture some rows at a time.

        Args:
            source: The input, some rows at a time: (C, rows, W), as many as in the first in all but the last.
            shape: Of the whole input, (1, C, H, W).
            rows: Of the window, both ends stated.
            columns: Of the window, both ends stated.
            at_once: Rows of which something is made at once.
            finish: What is made of them.

        Returns:
            (rows, columns, C), each until the next is asked for.

        Raises:
            ZooError: As for :meth:`run`, or as `finish` raises.
        """
        run_rows = getattr(self._session, "run_rows", None)
        if run_rows is None:
            return map(finish, rows_of(self.run(joined(source, shape)), rows, columns, at_once))
        check = functools.partial(_check, self._output, shape)
        parts: Iterator[npt.NDArray[Any]] = run_rows(source, shape, rows, columns, at_once, check, finish)
        return parts

    def _checked(self, given: FloatArray, inputs: FloatArray, spec: OutputSpec) -> FloatArray:
        import numpy as np

        outputs = np.asarray(given)
        _check(spec, inputs.shape, outputs.shape, outputs.dtype.name)
        # Pictures are checked as they are rounded, a strip at a time.
        if not spec.bounded and not np.isfinite(outputs).all():
            raise IntegrityError("The network returned numbers that are not finite.")
        return outputs


def joined(source: Iterable[FloatArray], shape: tuple[int, ...]) -> FloatArray:
    """Return an input (1, C, H, W) as a whole that comes some rows at a time, (C, rows, W)."""
    import numpy as np

    whole: FloatArray = np.empty(shape, np.float32)
    first = 0
    for part in source:
        whole[0, :, first : first + part.shape[1]] = part
        first += part.shape[1]
    return whole


def rows_of(outputs: FloatArray, rows: slice, columns: slice, at_once: int) -> Iterator[FloatArray]:
    """Yield a window of the first picture of outputs (N, C, H, W) some rows at a time: (C, rows, columns)."""
    window = outputs[0][:, rows, columns]
    for first in range(0, window.shape[1], at_once):
        yield window[:, first : first + at_once]


def _check(spec: OutputSpec, inputs: tuple[int, ...], shape: tuple[int, ...], dtype: str) -> None:
    expected = output_shape(spec, inputs)
    if expected is not None and (shape != expected or dtype != "float32"):
        raise IntegrityError(
            f"The network gives {dtype} {shape} for an input of {inputs}; its zoo.json states float32 {expected}.",
            hint="The artifact is damaged or malicious; make it again, or pull it again.",
        )
