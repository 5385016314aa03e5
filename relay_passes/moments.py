"""Measure what each layer reads on calibration images: mean and covariance of its input windows.

A layer's output error for a weight error D (one row) is D·x over windows x, whose mean square about
the mean is D C Dᵀ with the covariance C, and whose mean D·μ a bias takes away. That is all that
learned rounding and bias correction need to know of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.channels import is_dense_layer
from relay_passes.expose_tensors import expose_variables
from relay_passes.graph import Expr, Module, constant, ints, op_name, read_graph
from relay_passes.host import HostModule
from vta_config.errors import CalibrationError

#: Values of a window up to which a covariance is measured: learned rounding takes about six
#: matrices of its size, 1.6 GB here. VGG's first dense layer has 25,088 values.
MOST_VALUES: Final = 8192


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Moments:
    """First and second moments of a layer's input windows, K = I·KH·KW values each.

    Parameters
    ----------
    mean : float32[K]
        In the order of the weight's row: input channel, kernel row, kernel column.
    covariance : float32[K, K], optional
        About the mean; None beyond `MOST_VALUES`.
    samples : int
        Windows seen.
    """

    mean: NDArray[np.float32]
    covariance: NDArray[np.float32] | None
    samples: int


class _Sum:
    """Sums of windows and of their products, gathered in pieces that BLAS likes."""

    _PIECE = 1024

    def __init__(self, size: int) -> None:
        self.total = np.zeros(size)
        self.products = np.zeros((size, size), np.float32) if size <= MOST_VALUES else None
        self.samples = self.waiting = 0
        self.pieces: list[NDArray[np.float32]] = []

    def add(self, windows: NDArray[np.float32]) -> None:
        self.pieces.append(windows)
        self.waiting += windows.shape[1]
        if self.waiting >= self._PIECE:
            self.flush()

    def flush(self) -> None:
        if not self.pieces:
            return
        x = np.ascontiguousarray(np.concatenate(self.pieces, axis=1))
        self.total += x.sum(axis=1, dtype=np.float64)
        if self.products is not None:
            self.products += x @ x.T
        self.samples += x.shape[1]
        self.pieces, self.waiting = [], 0

    def moments(self) -> Moments:
        self.flush()
        mean = (self.total / self.samples).astype(np.float32)
        covariance = None
        if self.products is not None:
            covariance = self.products / np.float32(self.samples) - np.outer(mean, mean)
        return Moments(mean=mean, covariance=covariance, samples=self.samples)


def windows(
    x: NDArray[np.float32],
    weight_shape: tuple[int, ...],
    stride: tuple[int, int],
    padding: tuple[int, ...],
    dilation: tuple[int, int],
    places: NDArray[np.int64] | None = None,
) -> NDArray[np.float32]:
    """Return the columns of im2col, float32[I·KH·KW, places]; all output pixels without `places`.

    Parameters
    ----------
    x : float32[N, I, H, W]
        Input.
    weight_shape : (O, I, KH, KW)
    stride, dilation : (vertical, horizontal)
    padding : (top, left, bottom, right)
    places : int64[P], optional
        Which of the N·OH·OW output pixels.
    """
    _, _, kh, kw = weight_shape
    top, left, bottom, right = padding
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    rows = (padded.shape[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    columns = (padded.shape[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    if places is None:
        places = np.arange(len(x) * rows * columns)
    n, y, z = np.unravel_index(places, (len(x), rows, columns))
    result = np.empty((x.shape[1], kh, kw, len(places)), np.float32)
    for ky in range(kh):
        for kx in range(kw):
            taken = padded[n, :, y * stride[0] + ky * dilation[0], z * stride[1] + kx * dilation[1]]
            result[:, ky, kx] = taken.T
    return result.reshape(-1, len(places))


def collect_moments(
    mod: Module,
    images: Iterable[NDArray[Any]],
    *,
    places: int = 96,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Mapping[str, Moments]:
    """Run the float model over calibration images; return every layer's moments by tensor name.

    Parameters
    ----------
    mod : IRModule
        Float module, folded and named.
    images : iterable of float32[N, C, H, W]
        Preprocessed inputs.
    places : int
        Output pixels drawn from each image.
    seed : int
        Of the draw.
    progress : callable (count), optional
        Called after every image.

    Raises
    ------
    CalibrationError
        When there is no image.
    """
    layers = [b for b in read_graph(mod).bindings if is_dense_layer(b.value)]
    sums = {b.var.name: _Sum(int(np.prod(_oihw(b.value)[1:]))) for b in layers}
    images = list(images)
    if not images:
        raise CalibrationError(
            "calibration", "must have at least one image", got=0, hint="give a folder of images"
        )
    for name, found in each_window(mod, images, places=places, seed=seed, progress=progress):
        sums[name].add(found)
    return {name: total.moments() for name, total in sums.items()}


def each_window(
    mod: Module,
    images: Iterable[NDArray[Any]],
    *,
    places: int = 96,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Run the float model; yield each layer's name and windows float32[K, P], image by image.

    The parameters are those of `collect_moments`.
    """
    layers = [b for b in read_graph(mod).bindings if is_dense_layer(b.value)]
    params = {p.name for p in read_graph(mod).params}
    inputs = list(dict.fromkeys(b.value.args[0] for b in layers))
    inner = [v for v in inputs if v.name not in params]
    names = [str(v.name) for v in inner]
    run = HostModule(expose_variables(mod, inner), fast=True)
    rng = np.random.default_rng(seed)
    for count, image in enumerate(images, start=1):
        outputs = run(np.asarray(image, np.float32))
        tensors = dict(zip(names, outputs[len(outputs) - len(names) :], strict=True))
        for layer in layers:
            x = tensors.get(layer.value.args[0].name, image)
            yield str(layer.var.name), _draw(layer.value, x, places, rng)
        if progress is not None:
            progress(count)


def _oihw(value: Expr) -> tuple[int, ...]:
    weight = constant(value.args[1])
    assert weight is not None
    if op_name(value) == "matmul":
        return (weight.shape[1], weight.shape[0], 1, 1)
    return tuple(weight.shape)


def _draw(
    value: Expr, x: NDArray[Any], places: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return windows of some output pixels of a layer."""
    if op_name(value) == "matmul":
        return np.ascontiguousarray(x.T, np.float32)
    attrs = value.attrs
    n, _, oh, ow = (int(v) for v in value.ty.shape.values)
    chosen = rng.permutation(n * oh * ow)[:places]
    stride, dilation = ints(attrs.strides), ints(attrs.dilation)
    return windows(
        x,
        _oihw(value),
        (stride[0], stride[1]),
        ints(attrs.padding),
        (dilation[0], dilation[1]),
        np.sort(chosen),
    )
