"""How an input lies in DRAM: a patch of pixels at each position, so that few channels fill lanes.

A convolution on few channels wastes lanes, and the host arranges the image anyway when it packs
it. At each position it may therefore write several pixels as channels, `patch` of them along each
axis, positions `stride` pixels apart:

- space-to-depth: patch and stride are the convolution's stride;
- im2col: the patch is the kernel, the stride the convolution's stride;
- anything between, another one along each axis: for instance all taps of a row, rows in phases.

The convolution on such an input has ⌈kernel / patch⌉ taps, patch / stride positions apart, and its
padding is already there. With patches of one pixel a form describes a border around a tensor.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from flow.program.layouts import blocks
from relay_passes.operators.conv2d import OPERATOR as CONV2D

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from flow.program.layouts import Border
    from relay_passes.partition.layers import Layer

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class InputForm:
    """Patches of pixels as channels; pairs are (vertical, horizontal).

    Channel (dy · patch[1] + dx) · C + c of position (y, x) holds channel c of the pixel
    (y · stride[0] − padding[0] + dy, x · stride[1] − padding[1] + dx), `fill` outside the image.

    Parameters
    ----------
    patch : tuple[int, int]
        Pixels of a position.
    stride : tuple[int, int]
        Pixels from one position to the next.
    padding : tuple[int, int]
        Rows and columns before the first pixel.
    extent : tuple[int, int]
        Positions.
    fill : int
        The number outside the image, an int8.
    """

    patch: Pair
    stride: Pair
    padding: Pair
    extent: Pair
    fill: int = 0

    def __post_init__(self) -> None:
        """Check that there are pixels."""
        if min(*self.patch, *self.stride, *self.extent) < 1:
            raise ValueError(f"patch, stride and extent must be at least 1, got {self}")

    @classmethod
    def plain(cls, shape: tuple[int, ...]) -> InputForm:
        """Return the form of an NCHW tensor that lies as it is."""
        return cls(patch=(1, 1), stride=(1, 1), padding=(0, 0), extent=(shape[2], shape[3]))

    @classmethod
    def bordered(cls, shape: tuple[int, ...], border: Border) -> InputForm:
        """Return the form of an NCHW tensor that lies as it is, with a border around it."""
        return replace(
            cls.plain(border.around(shape)), padding=(border.top, border.left), fill=border.value
        )

    def keeps_pixels(self, shape: tuple[int, ...]) -> bool:
        """Tell whether each pixel of NCHW lies at a position of its own, with or without border."""
        ends = (first + size for first, size in zip(self.padding, shape[2:], strict=True))
        fits = all(end <= most for end, most in zip(ends, self.extent, strict=True))
        return fits and (1, 1) == self.patch == self.stride

    @classmethod
    def of(cls, layer: Layer, patch: Pair, stride: Pair) -> InputForm:
        """Return the form that holds all that convolution `layer` reads, its padding included."""
        taps = (blocks(layer.kernel[a], patch[a]) for a in (0, 1))
        vertical, horizontal = (
            (layer.out_shape[2 + a] - 1) * (layer.stride[a] // stride[a])
            + (count - 1) * (patch[a] // stride[a])
            + 1
            for a, count in enumerate(taps)
        )
        padding = (layer.padding[0], layer.padding[1])
        return cls(
            patch=patch,
            stride=stride,
            padding=padding,
            extent=(vertical, horizontal),
            fill=layer.pad_value if any(layer.padding) else 0,
        )

    def dram_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Return NCHW as an NCHW tensor of `shape` lies in DRAM."""
        return (shape[0], shape[1] * self.patch[0] * self.patch[1], *self.extent)

    def arrange(self, x: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return int8[N, C, H, W] as int8[N, patch · C, Y, X]."""
        n, c = x.shape[:2]
        rows, columns = ((self.extent[a] - 1) * self.stride[a] + self.patch[a] for a in (0, 1))
        top, left = self.padding
        whole = np.full((n, c, rows, columns), self.fill, np.int8)
        seen = x[:, :, : max(0, rows - top), : max(0, columns - left)]
        whole[:, :, top : top + seen.shape[2], left : left + seen.shape[3]] = seen
        patches = np.lib.stride_tricks.sliding_window_view(whole, self.patch, axis=(2, 3))
        patches = patches[:, :, :: self.stride[0], :: self.stride[1]]
        moved: NDArray[np.int8] = patches.transpose(0, 4, 5, 1, 2, 3).reshape(
            self.dram_shape(x.shape)
        )
        return moved

    def weight(self, weight: NDArray[np.int8]) -> NDArray[np.int8]:
        """Rewrite a kernel for this form.

        Tap (ky, kx) moves to tap (ky // patch[0], kx // patch[1]) of the patch's pixel
        (ky % patch[0], kx % patch[1]).

        Parameters
        ----------
        weight : int8[O, C, kh, kw]

        Returns
        -------
        int8[O, patch · C, ⌈kh / patch[0]⌉, ⌈kw / patch[1]⌉]
        """
        o, c, kh, kw = weight.shape
        ph, pw = self.patch
        _, _, rows, columns = self.weight_shape(weight.shape)
        full = np.pad(weight, ((0, 0), (0, 0), (0, -kh % ph), (0, -kw % pw)))
        split = full.reshape(o, c, rows, ph, columns, pw)
        moved: NDArray[np.int8] = split.transpose(0, 3, 5, 1, 2, 4).reshape(
            self.weight_shape(weight.shape)
        )
        return moved

    def weight_shape(self, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Return the shape of what `weight` makes of a kernel of `shape`."""
        o, c, kh, kw = shape
        ph, pw = self.patch
        return (o, ph * pw * c, blocks(kh, ph), blocks(kw, pw))

    def last_channels(self, shape: tuple[int, ...]) -> int:
        """Return the channels that the last row of taps needs of what `weight` makes.

        The rows of its patches below those are not in the kernel.
        """
        _, c, kh, _ = shape
        ph, pw = self.patch
        return ((kh - 1) % ph + 1) * pw * c


def _kernel_steps(form: InputForm, layer: Layer, block: int) -> int:
    """Return the GEMM steps per vector: blocks of channels of all taps, less those of zeros."""
    assert layer.weight is not None
    _, channels, rows, columns = form.weight_shape(layer.weight.shape)
    last = blocks(form.last_channels(layer.weight.shape), block)
    return (blocks(channels, block) * (rows - 1) + last) * columns


def forms_of(layer: Layer, block: int) -> list[InputForm | None]:
    """Return the forms worth weighing for the input of a convolution, None for the plain one.

    Those remain than which no other takes fewer GEMM steps per vector and fewer bytes, and the
    patch of the whole kernel, whose tiles need no rows in common.
    """
    if layer.operator is not CONV2D or layer.weight is None or layer.dilation != (1, 1):
        return [None]
    channels = layer.weight.shape[1]
    taps = layer.kernel[0] * layer.kernel[1]
    pixels = layer.in_shape[2] * layer.in_shape[3]
    plain = blocks(channels, block)
    found: list[tuple[int, int, InputForm | None]] = [(plain * taps, plain * pixels, None)]
    for (ph, sh), (pw, sw) in product(*(_axis_forms(layer, axis) for axis in (0, 1))):
        form = InputForm.of(layer, (ph, pw), (sh, sw))
        lanes = blocks(channels * ph * pw, block)
        steps = _kernel_steps(form, layer, block)
        found.append((steps, lanes * form.extent[0] * form.extent[1], form))
    best: list[InputForm | None] = []
    whole = [form for count, _, form in found if form and count < found[0][0]]
    whole = [form for form in whole if form.patch == layer.kernel]
    least: int | None = None
    for _, elements, choice in sorted(found, key=lambda f: (f[0], f[1], f[2] is not None)):
        if least is None or elements < least or choice in whole:
            least = min(elements, least or elements)
            best.append(choice)
    return best


def _axis_forms(layer: Layer, axis: int) -> Iterator[tuple[int, int]]:
    """Yield the (patch, stride) that a convolution can read along an axis.

    With the convolution's own stride, a patch reaches the next one where it is a multiple of it.
    """
    kernel, stride = layer.kernel[axis], layer.stride[axis]
    yield from ((patch, 1) for patch in range(1, kernel))
    if stride > 1:
        yield from ((patch, stride) for patch in range(stride, kernel, stride))
    yield kernel, stride
