"""What label images hold, over a whole dataset, and what a network should produce for one of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.data.label_checks import refuse_untrained
from zoo.data.pages import Page, is_indexed, read_page
from zoo.data.picture_files import counted, listed
from zoo.errors import InputError, UsageError
from zoo.tasks.mask_scores import IGNORED

if TYPE_CHECKING:
    import numpy.typing as npt

    from zoo.contracts import Architecture, OutputSpec, TargetArray

#: Label images that are looked at before any work, spread over all; the others are checked when they are read.
_MOST_LOOKED_AT = 2048
#: Numbers of different values that are those of classes; soft edges and JPEG give more.
_FEWEST_CLASSES, _MOST_CLASSES = 3, 16
_COLOUR = "colour"
_GRAY = "Store the number of the class, or black and white, as a gray or palette image."
_LOOK = "Look at the labels:  zoo data 'masks(...)'"


@dataclass(frozen=True)
class LabelValues:
    """The values of a label image.

    Attributes:
        values: All of them, rising.
        kind: What its numbers are; white is 1 in a palette or stored with one bit, 255 with eight.
    """

    page: Page
    values: tuple[float, ...]
    kind: str


class MaskLabels:
    """The label images of a dataset.

    Args:
        pages: Label images by the names of their samples.
        classes: The value of each class or channel; empty for none stated.
        invert: Whether dark is foreground.
    """

    def __init__(self, pages: Mapping[str, Page], classes: Sequence[int], *, invert: bool) -> None:
        self._pages, self._classes, self._invert = pages, tuple(classes), invert

    @cached_property
    def looked_at(self) -> Mapping[str, LabelValues]:
        """Return what label images hold, by name: of at most 2,048, and not of those that cannot be decoded."""
        names = list(self._pages)
        step = max(1.0, len(names) / _MOST_LOOKED_AT)
        found: dict[str, LabelValues] = {}
        for name in (names[int(index * step)] for index in range(min(len(names), _MOST_LOOKED_AT))):
            try:
                label = read_page(self._pages[name])
            except InputError:
                continue
            values = np.unique(label).tolist()
            kind = "palette" if is_indexed(self._pages[name]) else label.dtype.str
            kind = _COLOUR if label.ndim == 3 and (label != label[..., :1]).any() else kind
            found[name] = LabelValues(self._pages[name], tuple(map(float, values)), kind)
        return found

    @cached_property
    def _largest(self) -> dict[str, float]:
        """The largest value of the images of each type."""
        largest: dict[str, float] = {}
        for each in self.looked_at.values():
            largest[each.kind] = max(largest.get(each.kind, 0), each.values[-1])
        return largest

    @cached_property
    def _kinds(self) -> dict[Page, str]:
        return {each.page: each.kind for each in self.looked_at.values()}

    def shown(self, name: str) -> tuple[str, ...]:
        """Return the values of a label image as texts, for tables; none where there are too many to be classes."""
        values = self.looked_at[name].values if name in self.looked_at else ()
        return tuple(f"{value:g}" for value in values) if len(values) <= _MOST_CLASSES else ()

    def refuse_one_value(self) -> None:
        """Refuse label images that all have the same single value, whatever network they are for.

        Raises:
            InputError: They do.
        """
        seen = {value for each in self.looked_at.values() for value in each.values}
        if len(seen) == 1:
            raise InputError(
                f"masks: all pixels of {counted(len(self.looked_at), 'label image')} have the value "
                f"{next(iter(seen)):g}; at least two classes are needed.",
                hint="Is this the folder of the labels? Name another:  --data 'masks(images=DIR,labels=DIR)'",
            )

    def check(self, architecture: Architecture, trained: Iterable[str], stated: Iterable[str]) -> None:
        """Refuse labels from which the network cannot learn, or that mean something else than it outputs.

        Args:
            architecture: The network.
            trained: Names of the samples for training.
            stated: Names of those that the user holds out.

        Raises:
            InputError: There is one class only, one that the network lacks, or one that training lacks.
            UsageError: It is not known what the values mean.
        """
        self.refuse_one_value()
        coloured = [str(each.page) for each in self.looked_at.values() if each.kind == _COLOUR]
        if coloured:
            raise InputError(
                f"masks: {counted(len(coloured), 'label image')} in colour, where one value per pixel is required: "
                f"{listed(coloured)}.",
                hint=_GRAY,
            )
        by_value = architecture.output.kind == "classes" and not self._classes
        if by_value:
            self._refuse_unknown(architecture)
        elif not self._classes:
            self._refuse_classes_for_a_mask()
        seen: set[float] = set()
        for each in self.looked_at.values():
            seen |= self._meant(each.values, each.kind, architecture.output)
        counts = seen - {IGNORED}
        if len(counts) < 2 and IGNORED in seen:
            hint = "If 255 is a class, name the value of each:  masks(...,classes=[0,255])"
            raise UsageError(
                f"masks: apart from {IGNORED}, which stands for pixels that do not count, the label images have "
                f"only the class {min(counts, default='of no pixel'):{'g' if counts else ''}}."
                if by_value
                else f"masks: of the stated classes {listed([f'{value}' for value in self._classes])}, pixels have "
                f"{'only ' + str(self._classes[int(min(counts))]) if counts else 'none'}; at least two are needed.",
                hint=hint if by_value else _LOOK,
            )
        if len(counts) == 1:
            raise InputError(
                f"masks: all pixels of the {counted(len(self.looked_at), 'label image')} that were looked at have "
                f"one class, {next(iter(counts)):g}; at least two are needed.",
                hint=_LOOK,
            )
        if by_value or self._classes:
            sides = (
                {f"{value:g}" for name in names for value in self._counted(name)}
                for names in (trained, stated)
            )
            refuse_untrained(*sides, hint=_LOOK)

    def target(self, label: npt.NDArray[Any], page: Page, output: OutputSpec) -> TargetArray:
        """Return what the network should produce: (C, H, W) of 0 and 1, or the class of each pixel, (H, W).

        Args:
            label: The pixels of the label image, (H, W) or (H, W, 3).
            page: Where they are from.
            output: Of the network.

        Raises:
            InputError: The label image is in colour, or has values that others lack.
            UsageError: The stated classes do not fit the network.
        """
        label = _gray(label, page)
        channels = output.channels
        if self._classes and len(self._classes) != channels:
            raise UsageError(
                f"masks: {len(self._classes)} classes are named, but the network outputs {channels} "
                f"{'masks' if output.kind == 'mask' else 'classes'}."
            )
        if output.kind == "classes":
            return self._class_of_each_pixel(label, page, channels)
        if self._classes:
            return np.stack([label == value for value in self._classes]).astype(np.float32)
        if channels != 1:
            raise UsageError(
                f"The network outputs {channels} masks.",
                hint="Name the label value of each: masks(...,classes=[1,2])",
            )
        kind = self._kinds.get(page, label.dtype.str)
        largest = self._largest.get(kind, float(label.max()))
        if label.max() > largest:
            raise InputError(
                f"The label image {page} has the value {label.max():g}; the {len(self.looked_at):,} that were looked "
                f"at have {largest:g} at most.",
                hint="Name the value of the foreground:  masks(...,classes=[255])",
            )
        foreground = label > largest / 2
        return np.asarray(foreground != self._invert, dtype=np.float32)[None]

    # ------------------------------------------------------------------------------------------- details

    def _class_of_each_pixel(
        self, label: npt.NDArray[Any], page: Page, channels: int
    ) -> npt.NDArray[np.int64]:
        """Return (H, W): the place of each value among the stated ones, or the value itself."""
        if self._classes:
            found = np.full(label.shape, IGNORED, dtype=np.int64)
            for index, value in enumerate(self._classes):
                found[label == value] = index
            return found
        found = label.astype(np.int64)
        wrong = found[(found >= channels) & (found != IGNORED)]
        if wrong.size:
            raise InputError(
                f"The label image {page} has the value {int(wrong[0])}; the network has classes 0 to {channels - 1}.",
                hint="Name the value of each class:  masks(...,classes=[10,20,30])",
            )
        return found

    def _meant(self, values: Sequence[float], kind: str, output: OutputSpec) -> set[float]:
        """Return what values stand for: classes, their places among the stated ones, or 0 and 1."""
        if output.kind == "classes" and self._classes:
            places = {float(value): float(index) for index, value in enumerate(self._classes)}
            return {places.get(value, IGNORED) for value in values}
        if output.kind == "classes":
            return set(values)
        if self._classes:
            return {float(value in self._classes) for value in values}
        return {float(value > self._largest[kind] / 2) for value in values}

    def _counted(self, name: str) -> set[float]:
        """Return the values of a label image that stand for a class."""
        values = set(self.looked_at[name].values if name in self.looked_at else ())
        return values & set(map(float, self._classes)) if self._classes else values - {IGNORED}

    def _refuse_unknown(self, architecture: Architecture) -> None:
        classes = architecture.output.channels
        wrong = [
            f"{each.page} ({each.values[-1]:g})"
            if each.values[-1] != IGNORED
            else f"{each.page} ({beyond[-1]:g})"
            for each in self.looked_at.values()
            if (beyond := [value for value in each.values if value >= classes and value != IGNORED])
        ]
        if wrong:
            raise InputError(
                f"masks: {counted(len(wrong), 'label image')} with a value that {architecture.id} has no class for: it "
                f"has 0 to {classes - 1}: {listed(wrong)}.",
                hint="Name the value of each class:  masks(...,classes=[10,20,30])",
            )

    def _refuse_classes_for_a_mask(self) -> None:
        by_kind: dict[str, set[float]] = {}
        for each in self.looked_at.values():
            by_kind.setdefault(each.kind, set()).update(each.values)
        seen = max(map(sorted, by_kind.values()), key=len)
        if _FEWEST_CLASSES <= len(seen) <= _MOST_CLASSES:
            raise UsageError(
                f"masks: the label images have the values {listed([f'{value:g}' for value in seen])}; for a network "
                "that outputs one mask, it is not clear which of them are foreground.",
                hint=f"Name the foreground's value:  masks(...,classes=[{seen[-1]:g}])",
            )


def _gray(label: npt.NDArray[Any], page: Page) -> npt.NDArray[Any]:
    if label.ndim == 3:
        if (label != label[..., :1]).any():
            raise InputError(
                f"The label image {page} is in colour; one value per pixel is required.",
                hint=_GRAY,
            )
        label = label[..., 0]
    return label
