"""The stages of `ptq`: those of any quantization, and adaptive rounding, which a training would undo."""

from __future__ import annotations

import time

from zoo.quantization.judged_stages import JudgedStages
from zoo_techniques.ptq.adaptive_rounding import round_adaptively


class PtqStages(JudgedStages):
    """Judged stages, and adaptive rounding."""

    def round_adaptively(self) -> bool:
        """Round weights up or down."""
        self.note_moments()

        def change() -> str:
            begun = time.process_time()
            moved = round_adaptively(self.module, self.batches, self.skip_layer)
            return f"moving {moved:,} weights off the nearest level ({time.process_time() - begun:.0f} s)"

        return self.attempt(change)
