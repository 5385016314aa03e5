"""How much is learned, and what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from vta_config.errors import CalibrationError


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockLearner:
    """Learn rounding, scales and biases block by block, then in the whole network.

    Parameters
    ----------
    images : int
        Calibration images to learn from, at most.
    steps : int
        For each block.
    final_steps : int
        For the whole network afterwards, which learns the float network's results.
    batch : int
        Images of a step.
    rate : float
        Of Adam for bits: 1 is the distance of two integers.
    scale_rate : float
        For logarithms of scales.
    bias_rate : float
        For biases, in 1/64 of what the output can hold.
    drop : float
        Probability with which a value of a block's input, and an activation inside, stays float
        (QDrop, Wei et al., arXiv 2203.05740).
    soft_bits : bool
        Whether weights are learned; else they stay as they were rounded.
    learned_scales : bool
        Whether scales are learned; else they stay as they were chosen.
    seed : int
    device : str
        As PyTorch calls it, ``cpu`` or ``cuda``.

    Raises
    ------
    CalibrationError
        When a number is out of range.
    """

    images: int = 1000
    steps: int = 100
    final_steps: int = 60
    batch: int = 32
    rate: float = 0.007
    scale_rate: float = 1e-3
    bias_rate: float = 0.03
    drop: float = 0.5
    soft_bits: bool = True
    learned_scales: bool = True
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        """Check ranges."""
        for name, least in (("images", 1), ("steps", 0), ("final_steps", 0), ("batch", 1)):
            if getattr(self, name) < least:
                raise CalibrationError(
                    f"BlockLearner.{name}",
                    f"must be at least {least}",
                    got=getattr(self, name),
                    hint="choose an effort, such as quick or default",
                )
        if not 0 <= self.drop <= 1:
            raise CalibrationError(
                "BlockLearner.drop", "must be in [0, 1]", got=self.drop, hint="0.5 is usual"
            )


#: Learners by effort.
EFFORTS: Final[Mapping[str, BlockLearner]] = MappingProxyType(
    {
        "quick": BlockLearner(images=128, steps=30, final_steps=10),
        "default": BlockLearner(),
        "published": BlockLearner(images=1024, steps=20_000, final_steps=2_000),
    }
)
