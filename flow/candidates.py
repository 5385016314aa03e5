"""Candidate configurations of a variant, compared on calibration images; the best one is chosen.

For a small network each also learns from one half of the images and is judged on the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flow.system.threads import blas_threads
from relay_passes.float_model.channels import layer_weights
from relay_passes.scales.accumulators import fused_ends, paired_layers
from relay_passes.selection.choices import Candidate
from relay_passes.selection.choose_variant import (
    MARGIN_DB,
    SMALL_MARGIN_DB,
    choose,
    compare,
    result_sizes,
    results,
)
from relay_passes.selection.prove_layers import splits
from relay_passes.variants import RECIPES, STAND_INS
from vta_config.errors import CapacityError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from relay_passes.calibration.moments import LayerMoments
    from relay_passes.quant_options import QuantOptions

#: Of the calibration images those on which the candidates of a variant are compared.
JUDGING_IMAGES: Final = 32
#: How far behind layers that share one scale may be where equalizing them is still tried, in dB.
EQUALIZING_DB: Final = 2.0
#: Weights of a network up to which `best` is compared with per-tensor scales: in larger ones these
#: are never better by chance, and GPTQ takes long.
SMALL_WEIGHTS: Final = 4_000_000


def is_small(folded: Any) -> bool:
    """Tell whether a folded module has at most `SMALL_WEIGHTS` weights."""
    return _weights(folded) <= SMALL_WEIGHTS


def _weights(folded: Any) -> int:
    return sum(w.size for w in layer_weights(folded).values())


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Images on which candidates are compared.

    Parameters
    ----------
    learn : list[int], optional
        Images for rounding in their place; None to compare the final configurations.
    images : list of float32[N, C, H, W]
    moments : dict
        Of the images to learn from, by passes.
    """

    learn: list[int] | None
    images: list[NDArray[np.float32]]
    moments: dict[tuple[Any, ...], LayerMoments] = field(default_factory=dict)


class Candidates:
    """The candidates of all variants, for one model and its calibration images.

    Parameters
    ----------
    folded : IRModule
        The float module.
    images : sequence of float32[1, C, H, W]
        Calibration images to learn from.
    classifies : bool
        Whether the network ranks its outputs.
    form : callable (name) -> IRModule
        Returns the integer module of a recipe, learned from all images.
    learn : callable (options, trial) -> IRModule
        Returns one that is learned from the part of a trial.
    """

    def __init__(
        self,
        folded: Any,
        images: Sequence[NDArray[np.float32]],
        *,
        classifies: bool,
        form: Callable[[str], Any],
        learn: Callable[[QuantOptions, Trial], Any],
    ) -> None:
        """Start without any."""
        self.folded, self._images = folded, images
        self._classifies, self._form, self._learn = classifies, form, learn
        self._is_small = is_small(folded)
        self._sizes = result_sizes(folded)
        self._found: dict[str, Candidate] = {}

    def choose(self, candidates: Sequence[Candidate]) -> Candidate:
        """Return the candidate to use; a slower one must be better by a margin."""
        return choose(candidates, SMALL_MARGIN_DB if self._is_small else MARGIN_DB)

    def of(self, names: tuple[str, ...]) -> tuple[Candidate, ...]:
        """Run candidates on calibration images; return the promising ones, in the order of `names`.

        Raises
        ------
        CapacityError
            When accumulators may overflow in all of them.
        """
        found: dict[str, Candidate] = {}
        errors: list[CapacityError] = []
        # Those that depend on what others bring come last.
        for name in sorted(names, key=["fine_residuals", "per_tensor"].count):
            if self._worth_a_look(names[0], name, tuple(found.values())):
                try:
                    found[name] = self._judged(name)
                except CapacityError as error:  # of one form; others may fit
                    errors.append(error)
        for trial in self._trials:
            trial.moments.clear()
        if not found:
            raise errors[0]
        return tuple(found[name] for name in names if name in found)

    def _worth_a_look(self, variant: str, name: str, found: Sequence[Candidate]) -> bool:
        """Tell whether a candidate may be better than those before; measuring it takes time."""
        if not self._is_small and name in STAND_INS:  # either of them has moments of its own
            if variant != "per_tensor":
                return False
            judged = [self._judged(stand_in) for stand_in in STAND_INS.values()]
            chosen = judged.index(self.choose(judged))
            return name == tuple(STAND_INS)[chosen]
        if name == variant:
            return True
        if name == "fine_residuals":  # where the variant is not good enough, and sums are there
            ends = fused_ends(self.folded, paired_layers(self.folded))
            sums = any(end.skip or end.partner for end in ends.values())
            return sums and self.choose(found).name != variant
        if variant == "best" and name in ("per_tensor_ordered", "per_tensor"):
            # Equalized layers need moments of their own. They may pay where one scale per tensor
            # nearly does without.
            near = any(
                c.name == "per_tensor_ordered" and c.behind(found) <= EQUALIZING_DB for c in found
            )
            return near or name == "per_tensor_ordered"
        return True

    @cached_property
    def _trials(self) -> list[Trial]:
        """Return the comparison images; for a small network they are held out from rounding."""
        found = []
        count = len(self._images)
        parts: list[tuple[list[int] | None, list[int]]] = [(None, list(range(count)))]
        if self._is_small and count > 1:
            parts = [(learn, judge) for learn, judge in splits(count)]
        for learn, judge in parts:
            some = np.linspace(0, len(judge) - 1, min(len(judge), JUDGING_IMAGES)).astype(int)
            images = [self._images[judge[i]] for i in some]
            found.append(Trial(learn=learn, images=images))
        return found

    @cached_property
    def _reference(self) -> NDArray[np.float32]:
        """Results of the float model on the images of all trials, float32[images, values]."""
        with blas_threads(1):
            return results(self.folded, [x for trial in self._trials for x in trial.images])

    def _judged(self, name: str) -> Candidate:
        """Run a candidate on calibration images, once for all variants."""
        if name not in self._found:
            options = RECIPES[name].options
            found = [self._compared(name, [self._form(name)])]
            taught = [trial for trial in self._trials if trial.learn is not None]
            if taught and options.learns:
                forms = [self._learn(options, trial) for trial in taught]
                found.append(self._compared(name, forms))
            self._found[name] = Candidate(
                name=name,
                sqnr_db=float(np.mean([c.sqnr_db for c in found])),
                centred_db=float(np.mean([c.centred_db for c in found])),
                classifies=self._classifies,
            )
        return self._found[name]

    def _compared(self, name: str, forms: Sequence[Any]) -> Candidate:
        """Compare one candidate on the images of all trials, or one per trial on its own images."""
        images = [trial.images for trial in self._trials]
        if len(forms) == 1:
            images = [[image for part in images for image in part]]
        with blas_threads(1):
            values = [results(*pair) for pair in zip(forms, images, strict=True)]
        return compare(name, np.concatenate(values), self._reference, self._sizes)
