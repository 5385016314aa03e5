"""The small network that makes images from latent vectors while calibration images are distilled.

    z[256] -> dense to 128 channels of a quarter of the size -> BN
           -> upsample x2 -> 3x3 convolution to 64 channels -> BN -> LeakyReLU 0.2
           -> upsample x2 -> 3x3 convolution to the image's channels -> BN -> limit -> BN

(GENIE, Jeon et al., arXiv 2212.04780.) BN uses the statistics of the batch, and the last two have
no factor and offset: over the batch each channel of the images has mean 0 and standard deviation 1.

Two things differ from what was published:

- The limit is 2.5 tanh(x / 2.5) of normalized pixels, not tanh(x) of pixels of any size. The latter
  drove almost every pixel to one of two values 1.3 standard deviations from the mean, where
  photographs have pixels up to 2.5 of them away. BatchNorm statistics do not show that, but the
  range of the model's input is calibrated with it: digits lost 11 dB.
- Where a quarter of the size would need a dense layer of more than `DENSE_WEIGHTS` weights (above
  128x128 pixels), the dense layer makes an eighth of it, a sixteenth, ..., and a step of 64
  channels is put in for each halving. For 224x224 that saves 300 MB of weights, and twice that of
  Adam's moments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

Tensor = Any

LATENTS: Final = 256
WIDE: Final = 128
NARROW: Final = 64
#: Standard deviations beyond which there are no pixels.
LIMIT: Final = 2.5
SLOPE: Final = 0.2
DENSE_WEIGHTS: Final = 1 << 25
EPSILON: Final = 1e-5


@dataclass(frozen=True, slots=True, kw_only=True)
class _Norm:
    """BatchNorm with the statistics of the batch: factor and offset of each channel."""

    factor: Tensor
    offset: Tensor


class ImageGenerator:
    """Makes images of unit variance from latent vectors.

    Parameters
    ----------
    torch : module
    shape : (int, int, int)
        Channels, height and width of an image; any positive numbers.
    device : str
    dtype : torch.dtype
        Of what is computed; the weights are float32.
    source : torch.Generator
        Draws the initial weights.

    Attributes
    ----------
    parameters : list of Tensor
        What is learned.
    """

    def __init__(
        self, torch: Any, shape: tuple[int, int, int], *, device: str, dtype: Any, source: Any
    ) -> None:
        """Draw the weights."""
        self._torch, self._device, self._dtype, self._source = torch, device, dtype, source
        self.parameters: list[Tensor] = []
        channels, height, width = shape
        self._sizes = sizes(height, width)
        area = math.prod(self._sizes[0])
        # As torch's layers draw theirs: uniform, bounded by 1 / sqrt(inputs).
        self._dense = self._uniform((LATENTS, area * WIDE), LATENTS)
        self._bias = self._uniform((area * WIDE,), LATENTS)
        inner = [WIDE, *[NARROW] * (len(self._sizes) - 2), channels]
        self._kernels = [
            (self._uniform((after, before, 3, 3), 9 * before), self._uniform((after,), 9 * before))
            for before, after in pairwise(inner)
        ]
        self._norms = [self._norm(c) for c in inner[:-1]]

    def __call__(self, latents: Tensor) -> Tensor:
        """Return dtype[N, C, H, W] of float32[N, 256]."""
        functional = self._torch.nn.functional
        x = self._torch.addmm(self._bias, latents, self._dense)
        x = x.reshape(len(latents), *self._sizes[0], WIDE).permute(0, 3, 1, 2).to(self._dtype)
        x = self._normalize(x, self._norms[0])
        last = len(self._kernels) - 1
        for step, (weight, bias) in enumerate(self._kernels):
            height, width = self._sizes[step + 1]
            x = upsampled(self._torch, x, weight, bias)[:, :, :height, :width]
            if step < last:
                x = functional.leaky_relu(self._normalize(x, self._norms[step + 1]), SLOPE)
        limited = LIMIT * self._torch.tanh(standardized(x.float()) / LIMIT)
        return standardized(limited)

    def _normalize(self, x: Tensor, norm: _Norm) -> Tensor:
        if x.numel() == x.shape[1]:  # one number per channel: torch refuses to normalize it
            return (norm.offset.to(x.dtype)).reshape(1, -1, 1, 1) + 0 * x
        return self._torch.nn.functional.batch_norm(
            x, None, None, norm.factor, norm.offset, training=True, eps=EPSILON
        )

    def _norm(self, channels: int) -> _Norm:
        ones, zeros = (
            f(channels, device=self._device) for f in (self._torch.ones, self._torch.zeros)
        )
        return _Norm(factor=self._learned(ones), offset=self._learned(zeros))

    def _uniform(self, shape: tuple[int, ...], inputs: int) -> Tensor:
        drawn = self._torch.rand(shape, generator=self._source)
        drawn = drawn.mul_(2).sub_(1).mul_(inputs**-0.5).to(self._device)
        if len(shape) == 4:
            drawn = drawn.contiguous(memory_format=self._torch.channels_last)
        return self._learned(drawn)

    def _learned(self, tensor: Tensor) -> Tensor:
        self.parameters.append(tensor.requires_grad_())
        return tensor


def sizes(height: int, width: int) -> list[tuple[int, int]]:
    """Return height and width after the dense layer and after each upsampling."""
    result = [(height, width)]
    while len(result) < 3 or math.prod(result[0]) * WIDE * LATENTS > DENSE_WEIGHTS:
        rows, columns = result[0]
        if len(result) >= 3 and (rows, columns) == (1, 1):
            break
        result.insert(0, (-(-rows // 2), -(-columns // 2)))
    return result


def upsampled(torch: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return the 3x3 convolution of `x` after each pixel became 2x2.

    Computed as a convolution of `x` itself with 4 times the channels, one for each place in 2x2:
    the same sums of products, since equal pixels' weights are added first. With few channels that
    is 4 times faster than the convolution of the large picture, most of which is zeros to a
    processor that computes 16 channels at once.

    Parameters
    ----------
    x : dtype[N, C, H, W]
    weight : float32[K, C, 3, 3]
    bias : float32[K]

    Returns
    -------
    dtype[N, K, 2 H, 2 W]
    """
    spread = weight
    for place, axis in ((1, -2), (2, -1)):
        a, b, c = spread.unbind(axis)
        none = torch.zeros_like(a)
        both = torch.stack([a, b + c, none], axis), torch.stack([none, a + b, c], axis)
        spread = torch.stack(both, place)
    spread = spread.flatten(0, 2).to(x.dtype).contiguous(memory_format=torch.channels_last)
    y = torch.nn.functional.conv2d(x, spread, bias.repeat_interleave(4).to(x.dtype), padding=1)
    return torch.nn.functional.pixel_shuffle(y, 2)


def standardized(images: Tensor) -> Tensor:
    """Return float32[N, C, H, W] with mean 0 and standard deviation 1 of each channel."""
    mean = images.mean((0, 2, 3), keepdim=True)
    centred = images - mean
    return centred * (centred.square().mean((0, 2, 3), keepdim=True) + EPSILON).rsqrt()
