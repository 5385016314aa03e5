"""Select the rounding and the bias correction of each layer on held-out images.

A covariance from few images holds directions in which those images do not vary. GPTQ rounding
moves all error into them, and on other images they vary. So each layer's weights are rounded with
several dampings from a part of the images, to nearest as well, and the error of the layer's
output is measured on the other part:

    e = Σ_rows mean_x |D (x - μ)|²      D = W - s q, x the windows of held-out images,
                                        μ the mean over the images learned from.

The least error wins; the usual damping keeps its place unless another is better by more than
`NOISE`. A bias is corrected where that makes e smaller than the same without μ. What is estimated
from k times as many images needs a k-th of the damping, as in ridge regression.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from math import inf, log10
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.calibration.moments import Moments, WindowReader, collect_moments
from relay_passes.float_model.channels import layer_weights
from relay_passes.graph import Module
from relay_passes.rounding.second_order import USUAL_DAMPING, round_rows
from relay_passes.scales.scales import largest_weights
from relay_passes.selection.choices import LayerProof

#: Dampings tried; infinite is rounding to nearest. The first is used where nothing else is better.
DAMPINGS: Final = (USUAL_DAMPING, 0.1, 1.0, inf)
#: Share of the error by which another damping must be better than the usual one.
NOISE: Final = 0.05
#: Rows of a weight that are tried: an even choice.
_ROWS: Final = 48
#: From so many images on one split is enough.
_MANY: Final = 48
#: Largest integer of the weights that are tried. The choice hardly depends on it.
_LIMIT: Final = 127


def splits(count: int) -> list[tuple[list[int], list[int]]]:
    """Return (images for rounding, images for measuring), by index; none for a single image.

    Few images are split in halves, and each half is used for rounding once. Of many images, every
    third is used for measuring and the others for rounding.
    """
    if count >= _MANY:
        return [([i for i in range(count) if i % 3 != 2], list(range(2, count, 3)))]
    if count < 2:
        return []
    even, odd = list(range(0, count, 2)), list(range(1, count, 2))
    return [(even, odd), (odd, even)]


def prove_layers(
    mod: Module,
    images: Sequence[NDArray[Any]],
    *,
    block: int = 16,
    known: Sequence[Mapping[str, NDArray[Any]]] = (),
) -> dict[str, LayerProof]:
    """Return the selected rounding of each layer and its gain.

    Of many images only layers with fewer windows than values in one (dense layers, most of all)
    are tested; the others use the usual damping, as all do with a single image.

    Parameters
    ----------
    mod : IRModule
        Float module, folded and named.
    images : sequence of float32[N, C, H, W]
        Calibration images.
    block : int
        Output channels that share a scale.
    known : sequence of dict
        What layers read of each image, where that was kept (`tensors_to_prove`): the module need
        not run again.
    """
    reader, places = WindowReader(mod), usual_places(len(images))
    doubtful = _doubtful(reader, len(images))
    given: Sequence[Any] = images
    if len(known) == len(images) > 0 and reader.inputs(doubtful) <= known[0].keys():
        given = known
    weights = layer_weights(mod)
    trials = {name: _Trial() for name in doubtful}
    for learn, judge in splits(len(images)) if doubtful else []:
        with tempfile.TemporaryFile() as file:  # one layer's covariance at a time is needed
            taught = collect_moments(
                mod,
                [given[i] for i in learn],
                layers=doubtful,
                places=places,
                file=file,
                reader=reader,
            )
            for name, moments in taught.items():
                assert isinstance(moments, Moments)
                trials[name].start(weights[name], moments, block)
        draw = reader.drawer(doubtful, places=places, seed=1)
        for tensors in reader.tensors([given[i] for i in judge]):
            for name, windows in draw(tensors):
                trials[name].add(windows)
    if len(images) < 2:
        return {}
    share = len(splits(len(images))[0][0]) / len(images)
    return {name: trials[name].proof(name, share) for name in reader.sizes if name in doubtful}


def tensors_to_prove(mod: Module, images: int) -> set[str]:
    """Return the names of the few small tensors that `prove_layers` looks at, of many images."""
    if images < _MANY:
        return set()
    reader = WindowReader(mod)
    return reader.inputs(_doubtful(reader, images))


def _doubtful(reader: WindowReader, images: int) -> set[str]:
    """Return the layers whose rounding is tested."""
    # The few weights of a depthwise layer's channel are given away by few windows.
    if images < _MANY:
        return {name for name, groups in reader.groups.items() if groups == 1}
    places = usual_places(images)  # more windows than values: little is left to overfit
    return {
        name
        for name, size in reader.sizes.items()
        if images * min(places, reader.pixels[name]) < size
    }


def usual_places(images: int) -> int:
    """Return how many output pixels to draw from each image: more where images are few."""
    return min(1536, max(96, -(-12_000 // max(images, 1))))


class _Trial:
    """Errors of one layer on held-out images, summed over the splits."""

    def __init__(self) -> None:
        self.learned = {d: 0.0 for d in DAMPINGS}
        self.uncorrected = {d: 0.0 for d in DAMPINGS}

    def start(self, weight: NDArray[np.float64], moments: Moments, block: int) -> None:
        """Round with every damping from the moments of one split."""
        rows = weight.reshape(len(weight), -1)
        peaks = np.repeat(largest_weights(rows, "block", block), block)[: len(rows)]
        scale = np.where(peaks > 0, peaks, 1.0) / _LIMIT
        some = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _ROWS)).astype(int))
        rows, scale = rows[some].astype(np.float32), scale[some].astype(np.float32)
        spread = moments.mean_variance
        self.deltas = {}
        for damping in DAMPINGS:
            if damping == inf or not moments.has_covariance:
                q = np.clip(
                    np.floor(rows / scale[:, np.newaxis] + np.float32(0.5)), -_LIMIT, _LIMIT
                )
            else:
                q = round_rows(rows, scale, moments, extra=damping * spread, qmax=_LIMIT)
            self.deltas[damping] = rows - scale[:, np.newaxis] * q
        self.offsets = {d: delta @ moments.mean for d, delta in self.deltas.items()}

    def add(self, windows: NDArray[np.float32]) -> None:
        """Add the errors on windows float32[K, P]."""
        for damping, delta in self.deltas.items():
            error = (delta @ windows).astype(np.float64)
            self.uncorrected[damping] += float(np.square(error).sum())
            error -= self.offsets[damping][:, np.newaxis]
            self.learned[damping] += float(np.square(error).sum())

    def proof(self, name: str, share: float) -> LayerProof:
        """Select; each split used `share` of the images for rounding."""
        errors = {d: min(self.learned[d], self.uncorrected[d]) for d in DAMPINGS}
        best = min(DAMPINGS, key=errors.__getitem__)
        if errors[USUAL_DAMPING] * (1 - NOISE) <= errors[best]:
            best = USUAL_DAMPING
        gain = self.uncorrected[inf] / max(errors[best], 1e-300) if self.uncorrected[inf] else 1.0
        return LayerProof(
            layer=name,
            damping=max(USUAL_DAMPING, best * share),
            correct_bias=self.learned[best] <= self.uncorrected[best],
            gain_db=10 * log10(min(max(gain, 1e-30), 1e30)),
        )
