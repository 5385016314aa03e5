"""The generator of images: any size, normalized pixels, limited."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest

from relay_passes.calibration import image_generator
from relay_passes.calibration.image_generator import ImageGenerator, sizes


def make(shape: tuple[int, int, int], seed: int = 0) -> tuple[Any, Any, Any]:
    torch = pytest.importorskip("torch")
    source = torch.Generator().manual_seed(seed)
    generator = ImageGenerator(torch, shape, device="cpu", dtype=torch.float32, source=source)
    return torch, generator, torch.randn((4, 256), generator=source)


def test_sizes_double_to_that_of_the_image() -> None:
    assert sizes(32, 32) == [(8, 8), (16, 16), (32, 32)]
    assert sizes(128, 128)[0] == (32, 32)
    assert sizes(224, 224) == [(28, 28), (56, 56), (112, 112), (224, 224)]
    assert sizes(1, 1) == [(1, 1)] * 3
    assert sizes(49, 10) == [(13, 3), (25, 5), (49, 10)]
    for height, width in ((2160, 3840), (1, 100_000), (7, 5000)):
        found = sizes(height, width)
        assert math.prod(found[0]) * 256 * 128 <= image_generator.DENSE_WEIGHTS
        assert found[-1] == (height, width)
        for small, large in pairwise(found):
            assert all(2 * s in (n, n + 1) for s, n in zip(small, large, strict=True))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 49, 10), (7, 5, 3), (2, 1, 1), (1, 1, 9)])
def test_images_are_normalized_and_limited(shape: tuple[int, int, int]) -> None:
    torch, generator, latents = make(shape)
    images = generator(latents)
    assert images.shape == (4, *shape)
    assert images.mean((0, 2, 3)).abs().max() < 1e-5
    assert (images.var((0, 2, 3), correction=0) - 1).abs().max() < 0.01
    images.square().sum().backward()
    assert all(p.grad is not None for p in generator.parameters)
    assert torch.equal(images, make(shape)[1](latents))
    assert not torch.equal(images, make(shape, seed=1)[1](latents))


def test_pixels_have_a_limit() -> None:
    torch, generator, latents = make((1, 32, 32))
    with torch.no_grad():
        kernel, _ = generator._kernels[-1]
        kernel[:, 0] = 100.0
        latents[0] *= 100
        assert generator(latents).abs().max() < 5


def test_upsampling_is_part_of_the_convolution() -> None:
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    x, weight, bias = (torch.randn(s).double() for s in ((2, 5, 4, 3), (3, 5, 3, 3), (3,)))
    large = functional.interpolate(x, scale_factor=2.0, mode="nearest")
    expected = functional.conv2d(large, weight, bias, padding=1)
    assert torch.allclose(image_generator.upsampled(torch, x, weight, bias), expected)


def test_one_number_per_channel() -> None:
    torch, generator, latents = make((2, 1, 1))
    assert torch.equal(generator(latents[:1]), torch.zeros(1, 2, 1, 1))
