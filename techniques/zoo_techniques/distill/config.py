"""The options of distillation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.options import option


@dataclass(frozen=True)
class DistillConfig:
    """Options of `distill`.

    Attributes:
        teacher: Whom to learn from; "" for the net as it was before the recipe.
        output: Weight of the difference between the outputs.
        features: Weight of the difference between intermediate features, all together.
        task: Weight of the task's own loss against the data's targets.
        loss: Between the outputs: "l1" and "l2" mean absolute and mean squared difference; "soft" for logits
            the divergence of the softened distributions, for masks the cross-entropy; "auto" is "soft" for
            these two and "l1" for pictures.
        temperature: By which logits are divided before the softmax.
    """

    teacher: str = option(
        "",
        help="checkpoint id, artifact folder, or network(weights=FILE); by default the network before the recipe",
    )
    output: float = option(1.0, minimum=0.0, help="weight of the difference between the outputs")
    features: float = option(10.0, minimum=0.0, help="weight of the difference between intermediate features")
    task: float = option(1.0, minimum=0.0, help="weight of the task's own loss")
    loss: Literal["auto", "l1", "l2", "soft"] = option("auto", help="difference between the outputs")
    temperature: float = option(4.0, minimum=0.1, maximum=100.0, help="softens logits before the softmax")
