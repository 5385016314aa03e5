"""Measure what each layer reads on calibration images: mean and covariance of its input windows.

A layer's output error for a weight error D (one row) is D·x over windows x, whose mean square about
the mean is D C Dᵀ with the covariance C, and whose mean D·μ a bias takes away. That is all that
GPTQ rounding and bias correction need to know of the data.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, BinaryIO, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from relay_passes.calibration.group_moments import USUAL_OCTAVES, GroupMoments, GroupSum
from relay_passes.graph import Expr, Module, constant, dtype_of, ints, op_name, read_graph
from relay_passes.host.expose import expose_variables
from relay_passes.host.rows import inputs_of
from relay_passes.host.run import HostModule
from relay_passes.numerics import power_of_two_at_least
from relay_passes.operators.calls import is_dense_layer, is_grouped_layer
from vta_config.errors import CalibrationError

#: Values of a window up to which a covariance is measured: GPTQ rounding takes about six
#: matrices of its size, 1.6 GB here. VGG's first dense layer has 25,088 values.
MOST_VALUES: Final = 8192
#: What is summed in one pass over the images: all layers of a ResNet-18.
_MOST_BYTES: Final = 400_000_000
#: Products of a convolution of several groups that are summed: those of ResNeXt-50 take 10 MB.
_MOST_PRODUCTS: Final = 1 << 24
#: Rows of a band of a covariance.
_BAND: Final = 512


class Moments:
    """First and second moments of a layer's input windows, K = I·KH·KW values each.

    The covariance is kept as bands of its lower triangle, little more than half of it for large K.

    Parameters
    ----------
    mean : float32[K]
        In the order of the weight's row: input channel, kernel row, kernel column.
    covariance : float32[K, K], or its bands, optional
        About the mean, of windows divided by `unit`; None beyond `MOST_VALUES`.
    samples : int
        Windows seen.
    unit : float
        A power of two: 1 but for windows whose squares might leave float32.
    """

    __slots__ = ("_bands", "_order", "mean", "mean_variance", "samples", "unit", "variances")

    def __init__(
        self,
        *,
        mean: NDArray[np.float32],
        covariance: NDArray[np.float32] | list[NDArray[np.float32]] | None,
        samples: int,
        unit: float = 1.0,
    ) -> None:
        """Take the moments; of a whole covariance only the bands."""
        if isinstance(covariance, np.ndarray):
            covariance = [covariance[i:j, :j].copy() for i, j in _bands(len(covariance))]
        self._bands: Iterable[NDArray[np.float32]] | None = covariance
        self._order: NDArray[np.int64] | None = None  # of the windows that the bands are of
        self.mean = mean
        self.samples = samples
        self.unit = unit
        #: The covariance's diagonal, float32[K], and its mean; zeros without a covariance.
        self.variances = np.zeros(len(mean), np.float32)
        self.mean_variance = 0.0
        if covariance is not None:
            places = zip(_bands(len(mean)), covariance, strict=True)
            self.variances = np.concatenate([np.diagonal(band, i) for (i, _), band in places])
            self.mean_variance = float(self.variances.mean())

    def store(self, file: BinaryIO) -> None:
        """Move the covariance to the end of an open file, from which it is read when needed."""
        if self._bands is not None:
            self._bands = _Stored(file, self._bands, len(self.mean))

    def reordered(self, order: NDArray[np.int64]) -> Moments:
        """Return the moments of windows[order], with the same covariance in memory or file."""
        other = Moments(mean=self.mean[order], covariance=None, samples=self.samples)
        other.unit, other.mean_variance = self.unit, self.mean_variance
        other.variances, other._bands = self.variances[order], self._bands
        other._order = order if self._order is None else self._order[order]
        return other

    @property
    def covariance(self) -> NDArray[np.float32] | None:
        """The covariance, float32[K, K], made anew at each call."""
        if not self.has_covariance:
            return None
        return self.ordered(np.arange(len(self.mean)))

    def ordered(self, order: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return float32[K, K], the covariance of windows[order], made anew at each call."""
        assert self._bands is not None
        if self._order is not None:
            order = self._order[order]
        size = len(self.mean)
        whole = np.empty((size, size), np.float32)
        for (i, j), band in zip(_bands(size), self._bands, strict=True):
            whole[i:j, :j] = band
            whole[:i, i:j] = band[:, :i].T
        full = np.empty((size, size), np.float32)
        for i, j in _bands(size):  # rows are copied, then columns taken: fast, and no third matrix
            whole[order[i:j]].take(order, axis=1, out=full[i:j])
        return full

    @property
    def has_covariance(self) -> bool:
        """Whether it was measured."""
        return self._bands is not None

    def outputs(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return rows · mean of each output channel, float64[O], of rows float64[O, K]."""
        return np.asarray(rows @ self.mean)


#: Of the layers of a graph, by tensor name.
LayerMoments: TypeAlias = Mapping[str, Moments | GroupMoments]


class _Stored:
    """Bands of a covariance in a file."""

    def __init__(self, file: BinaryIO, bands: Iterable[NDArray[np.float32]], size: int) -> None:
        self._file, self._size = file, size
        self._start = file.seek(0, io.SEEK_END)
        for band in bands:
            file.write(band.data)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        at = self._start
        for i, j in _bands(self._size):
            self._file.seek(at)
            at += (size := 4 * (j - i) * j)
            yield np.frombuffer(self._file.read(size), np.float32).reshape(j - i, j)


def _bands(size: int) -> list[tuple[int, int]]:
    """Return first and last row of each band of a symmetric matrix: band[i:j, :j] is kept."""
    return [(i, min(i + _BAND, size)) for i in range(0, size, _BAND)]


class _Sum:
    """Sums of windows and of their products, gathered in pieces that BLAS likes."""

    PIECE: Final = 1024

    def __init__(self, size: int) -> None:
        self.total = np.zeros(size)
        self.summands: list[NDArray[np.float32]] | None = None
        if size <= MOST_VALUES:
            self.summands = [np.zeros((j - i, j), np.float32) for i, j in _bands(size)]
        self.samples = self.waiting = 0
        self.unit = 0.0  # none yet
        self.pieces: list[NDArray[np.float32]] = []

    def add(self, windows: NDArray[np.float32]) -> None:
        self.pieces.append(windows)
        self.waiting += windows.shape[1]
        if self.waiting >= self.PIECE:
            self.flush()

    def flush(self) -> None:
        if not self.pieces:
            return
        x = np.ascontiguousarray(np.concatenate(self.pieces, axis=1))
        self.total += x.sum(axis=1, dtype=np.float64)
        if not self.unit and (peak := float(np.abs(x).max(initial=0.0))):
            usual = 2.0**-USUAL_OCTAVES < peak < 2.0**USUAL_OCTAVES
            self.unit = 1.0 if usual else power_of_two_at_least(peak)
        if self.unit not in (0.0, 1.0):
            x = x / np.float32(self.unit)
        if self.summands is not None:
            for (i, j), band in zip(_bands(len(x)), self.summands, strict=True):
                band += x[i:j] @ x[:j].T
        self.samples += x.shape[1]
        self.pieces, self.waiting = [], 0

    def moments(self) -> Moments:
        """Return the moments; this object is used up."""
        self.flush()
        unit = self.unit or 1.0
        mean = (self.total / unit / self.samples).astype(np.float32)
        bands, self.summands = self.summands, None
        if bands is not None:
            for (i, j), band in zip(_bands(len(mean)), bands, strict=True):
                band /= np.float32(self.samples)
                band -= np.outer(mean[i:j], mean[:j])
        real = (self.total / self.samples).astype(np.float32)
        return Moments(mean=real, covariance=bands, samples=self.samples, unit=unit)


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
    images: Iterable[NDArray[Any] | Mapping[str, NDArray[Any]]],
    *,
    layers: Container[str] | None = None,
    places: int = 96,
    seed: int = 0,
    file: BinaryIO | None = None,
    progress: Callable[[int], None] | None = None,
    reader: WindowReader | None = None,
) -> LayerMoments:
    """Run the float model over calibration images; return every layer's moments by tensor name.

    Those of a convolution of several groups are `GroupMoments`.

    Parameters
    ----------
    mod : IRModule
        Float module, folded and named.
    images : iterable of float32[N, C, H, W]
        Preprocessed inputs; or of what the layers read, see `WindowReader.tensors`.
    layers : container of str, optional
        Those wanted; all by default.
    places : int
        Output pixels drawn from each image.
    seed : int
        Of the draw.
    file : binary file, optional
        Where covariances are kept, open for reading and writing; in memory without.
    progress : callable (count), optional
        Called after every image.
    reader : WindowReader, optional
        Of `mod`, where it was compiled before.

    Raises
    ------
    CalibrationError
        When there is no image.
    """
    reader = reader or WindowReader(mod)
    sizes = {n: size for n, size in reader.sizes.items() if layers is None or n in layers}
    groups = _groups(sizes, reader.groups) if isinstance(images, Sequence) else [set(sizes)]
    result: dict[str, Moments | GroupMoments] = {}
    for group in groups:
        sums = MomentSums(reader, group, places=places, seed=seed)
        for tensors in reader.tensors(images):
            sums.add(tensors)
            if progress is not None and not result:
                progress(sums.count)
        result |= sums.moments(file)
    return {name: result[name] for name in sizes}


def reordered_moments(
    moments: LayerMoments, orders: Mapping[str, NDArray[np.int64]]
) -> LayerMoments:
    """Return the moments of a module whose channels were put in another order.

    Parameters
    ----------
    moments : dict[str, Moments or GroupMoments]
        Measured before.
    orders : dict[str, int64[C]]
        By layer, of its input channels, where they changed.
    """
    result = dict(moments)
    for name, order in orders.items():
        found = result.get(name)
        if isinstance(found, GroupMoments):  # of a depthwise layer, whose groups are channels
            result[name] = found.reordered(order)
        elif found is not None:
            size = len(found.mean) // len(order)  # of a channel's part of the window
            places = order[:, np.newaxis] * size + np.arange(size)
            result[name] = found.reordered(places.reshape(-1))
    return result


class MomentSums:
    """Sums the moments of layers, image by image.

    Parameters
    ----------
    reader : WindowReader
    layers : container of str
    places : int
        Output pixels drawn from each image.
    seed : int
        Of the draw.

    Attributes
    ----------
    count : int
        Images so far.
    """

    def __init__(
        self, reader: WindowReader, layers: Container[str], *, places: int, seed: int = 0
    ) -> None:
        """Start without an image."""
        self._draw = reader.drawer(layers, places=places, seed=seed)
        self._sums: dict[str, _Sum | GroupSum] = {
            name: _Sum(size) if reader.groups[name] == 1 else GroupSum(reader.groups[name], size)
            for name, size in reader.sizes.items()
            if name in layers
        }
        self.count = 0

    def add(self, tensors: Mapping[str, NDArray[Any]]) -> None:
        """Add an image: what the layers read of it, by name."""
        for name, columns in self._draw(tensors):
            self._sums[name].add(columns)
        self.count += 1

    def moments(self, file: BinaryIO | None = None) -> dict[str, Moments | GroupMoments]:
        """Return the moments by layer, with covariances in `file`; this object is used up.

        Raises
        ------
        CalibrationError
            When there was no image.
        """
        if self.count == 0:
            raise CalibrationError(
                "calibration", "must have at least one image", got=0, hint="give a folder of images"
            )
        result: dict[str, Moments | GroupMoments] = {}
        for name in list(self._sums):
            moments = result[name] = self._sums.pop(name).moments()
            if file is not None and isinstance(moments, Moments):
                moments.store(file)
        return result


class WindowReader:
    """Knows which windows the layers of a float module read, and runs it.

    Parameters
    ----------
    mod : IRModule
        Float module, folded and named.
    """

    def __init__(self, mod: Module) -> None:
        """Look for the layers; the module is compiled when it is first run."""
        self._layers = [b for b in read_graph(mod).bindings if _is_measured(b.value)]
        self._params = [str(p.name) for p in read_graph(mod).params]
        # All tensors are exposed, so that kernels, and roundings with them, are those of profiling.
        inner = [b.var for b in read_graph(mod).bindings if dtype_of(b.var) == "float32"]
        self._names = [str(v.name) for v in inner]
        self._exposed = expose_variables(mod, inner)
        #: Values of a group's window, K, by layer.
        self.sizes = {str(b.var.name): int(np.prod(_oihw(b.value)[1:])) for b in self._layers}
        #: Groups of channels, by layer.
        self.groups = {
            str(b.var.name): int(b.value.attrs.groups) if is_grouped_layer(b.value) else 1
            for b in self._layers
        }
        #: Windows of an image, by layer.
        self.pixels = {str(b.var.name): _pixels(b.value) for b in self._layers}

    @cached_property
    def _run(self) -> HostModule:
        return HostModule(self._exposed, fast=True)

    def inputs(self, layers: Container[str]) -> set[str]:
        """Return the names of the tensors that some layers read."""
        return {str(b.value.args[0].name) for b in self._layers if b.var.name in layers}

    @property
    def fits(self) -> bool:
        """Whether memory holds the sums of all layers at once."""
        return len(_groups(self.sizes, self.groups)) == 1

    def tensors(
        self, images: Iterable[NDArray[Any] | Mapping[str, NDArray[Any]]]
    ) -> Iterator[Mapping[str, NDArray[Any]]]:
        """Run the module on each image; yield what layers read, by name.

        In place of an image its `inputs` may be given, by name, where the module has run before.
        """
        for image in images:
            if isinstance(image, Mapping):
                yield image
                continue
            outputs = self._run(np.asarray(image, np.float32))
            last = outputs[len(outputs) - len(self._names) :]
            given = inputs_of(image, self._run.input_shapes)
            yield dict(zip((*self._params, *self._names), (*given, *last), strict=True))

    def drawer(
        self, layers: Container[str], *, places: int, seed: int
    ) -> Callable[[Mapping[str, NDArray[Any]]], Iterator[tuple[str, NDArray[np.float32]]]]:
        """Return what draws windows float32[K, P] of some pixels, image by image.

        It takes the tensors that layers read and yields the names of `layers` with their windows.
        Which pixels are drawn depends on the number of the image and on nothing else.
        """
        rng = np.random.default_rng(seed)

        def draw(
            tensors: Mapping[str, NDArray[Any]],
        ) -> Iterator[tuple[str, NDArray[np.float32]]]:
            chosen = {b.var.name: _chosen(b.value, places, rng) for b in self._layers}
            return (
                (
                    str(b.var.name),
                    _draw(b.value, tensors[str(b.value.args[0].name)], chosen[b.var.name]),
                )
                for b in self._layers
                if b.var.name in layers
            )

        return draw


def _groups(sizes: Mapping[str, int], parts: Mapping[str, int]) -> list[set[str]]:
    """Return the layers in groups, each for a pass over the images, whose sums memory holds.

    Parameters
    ----------
    sizes, parts : dict[str, int]
        Values of a window, and groups of channels that have windows of their own.
    """
    groups: list[set[str]] = [set()]
    taken = 0
    for name, size in sorted(sizes.items(), key=lambda item: item[1]):
        covariance = sum((j - i) * j for i, j in _bands(size)) if size <= MOST_VALUES else 0
        if parts[name] > 1:
            covariance = parts[name] * size * size
        need = 4 * (covariance + parts[name] * size * _Sum.PIECE)
        if groups[-1] and taken + need > _MOST_BYTES:
            groups.append(set())
            taken = 0
        groups[-1].add(name)
        taken += need
    return groups


def _is_measured(value: Expr) -> bool:
    if not is_grouped_layer(value):
        return is_dense_layer(value)
    return int(np.prod(_oihw(value)[1:])) ** 2 * int(value.attrs.groups) <= _MOST_PRODUCTS


def _oihw(value: Expr) -> tuple[int, ...]:
    weight = constant(value.args[1])
    assert weight is not None
    if op_name(value) == "matmul":
        return (weight.shape[1], weight.shape[0], 1, 1)
    return tuple(weight.shape)


def _pixels(value: Expr) -> int:
    """Return how many output pixels a layer has, one for each of its windows."""
    if op_name(value) == "matmul":
        return 1
    n, _, oh, ow = (int(v) for v in value.ty.shape.values)
    return n * oh * ow


def _chosen(value: Expr, places: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw some output pixels of a convolution; a dense layer has one."""
    if op_name(value) == "matmul":
        return np.zeros(1, np.int64)
    return np.sort(rng.permutation(_pixels(value))[:places])


def _draw(value: Expr, x: NDArray[Any], chosen: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the windows of the chosen output pixels of a layer."""
    if op_name(value) == "matmul":
        return np.ascontiguousarray(x.T, np.float32)
    attrs = value.attrs
    stride, dilation = ints(attrs.strides), ints(attrs.dilation)
    return windows(
        x,
        _oihw(value),
        (stride[0], stride[1]),
        ints(attrs.padding),
        (dilation[0], dilation[1]),
        chosen,
    )
