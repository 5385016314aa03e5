"""What was chosen for a variant: the steps that proved themselves on calibration images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerProof:
    """What learning does for one layer on images that it did not learn from.

    Parameters
    ----------
    layer : str
        Convolution or dense tensor.
    damping : float
        For GPTQ rounding; infinite where nearest rounding is better.
    correct_bias : bool
        Whether the corrected bias makes the error smaller.
    gain_db : float
        Error of nearest rounding without a corrected bias over that of what was chosen.
    """

    layer: str
    damping: float
    correct_bias: bool
    gain_db: float

    @property
    def rounding(self) -> str:
        """How its weights are rounded: ``learned`` or ``nearest``."""
        return "nearest" if self.damping == inf else "learned"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "layer": self.layer,
            "rounding": self.rounding,
            "damping": None if self.damping == inf else self.damping,
            "correct_bias": self.correct_bias,
            "gain_db": round(self.gain_db, 6),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One candidate configuration, and the SQNR of its outputs.

    Parameters
    ----------
    name : str
        The variant or step.
    sqnr_db : float
        10 log10(Σ r² / Σ (r - v)²) of all results r and v.
    centred_db : float
        The same of results less each image's mean; equal to `sqnr_db` for a single result.
    classifies : bool
        Whether the network ranks its results: what is added to all of them changes neither their
        order nor a softmax.
    """

    name: str
    sqnr_db: float
    centred_db: float
    classifies: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "form": self.name,
            "sqnr_db": round(self.sqnr_db, 6),
            "centred_sqnr_db": round(self.centred_db, 6),
        }

    def behind(self, others: Sequence[Candidate]) -> float:
        """Return by how many dB the best of others is better, in the measure where it is more.

        For a classifier only the centred measure counts.
        """
        centred = max(other.centred_db for other in others) - self.centred_db
        if self.classifies:
            return centred
        return max(max(other.sqnr_db for other in others) - self.sqnr_db, centred)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which steps of a variant were kept.

    Parameters
    ----------
    variant : str
        What was asked for.
    chosen : str
        The candidate that was taken: the variant itself where all of its steps pay.
    candidates : tuple[Candidate, ...]
        In the order of preference; empty if there is only one.
    layers : tuple[LayerProof, ...]
        How each layer learns.
    """

    variant: str
    chosen: str
    candidates: tuple[Candidate, ...] = ()
    layers: tuple[LayerProof, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "form": self.chosen,
            "compared": [candidate.to_json() for candidate in self.candidates],
            "layers": [layer.to_json() for layer in self.layers],
        }
