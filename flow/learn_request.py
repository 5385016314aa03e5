"""What the user asks of variants whose weights are learned block by block."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from relay_passes.learning.options import EFFORTS, BlockLearner

#: The effort that variants have of themselves.
USUAL_EFFORT: Final = "default"
EFFORT_NAMES: Final = tuple(EFFORTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnRequest:
    """How long variants learn, and where.

    Parameters
    ----------
    effort : str
        A name in `EFFORTS`.
    device : str
        Where PyTorch computes: ``cpu``, ``cuda``, ``cuda:1``.
    """

    effort: str = USUAL_EFFORT
    device: str = "cpu"

    def applied(self, own: BlockLearner) -> BlockLearner:
        """Return a variant's learner with this effort; what it learns stays its own."""
        if self.effort == USUAL_EFFORT:
            return replace(own, device=self.device)
        effort = EFFORTS[self.effort]
        return replace(
            own,
            images=effort.images,
            steps=effort.steps,
            final_steps=effort.final_steps,
            batch=effort.batch,
            device=self.device,
        )
