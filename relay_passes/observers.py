"""Observers: what a tensor's profile says its range is.

An observer is a small frozen object; calling it with a `TensorProfile` returns the magnitude that
the largest integer shall stand for. Values beyond it are clipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from relay_passes.params import TensorProfile


class Observer(Protocol):
    """Anything that turns a profile into the largest magnitude worth representing."""

    def __call__(self, profile: TensorProfile, qmax: int) -> float:
        """Return max|x| to represent, >= 0.

        Parameters
        ----------
        profile : TensorProfile
            What was seen: range, histogram, each image's maximum.
        qmax : int
            Largest integer of the quantized tensor, for observers that weigh its step.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxAbs:
    """Represent everything seen: max(|lo|, |hi|)."""

    def __call__(self, profile: TensorProfile, qmax: int) -> float:
        """Return the largest magnitude seen."""
        return profile.max_abs
