"""Handwritten digits that come with the package: 1,797 images of 8x8 pixels, 10 classes.

They are the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak,
UCI Machine Learning Repository, 1998, doi:10.24432/C50P49; CC BY 4.0, see DIGITS_LICENSE.txt beside
this file). ``scripts/make_digits.py`` makes digits.npz from scikit-learn's copy.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flow.data.datasets import ArraySource, Dataset, Preprocessing

DIGITS_CLASSES: Final = 10
DIGITS_FILE: Final = Path(__file__).parent / "digits.npz"
#: What a pixel counts: so many of 4x4 scanned dots are ink.
LARGEST_COUNT: Final = 16
#: What --images calls the harder view, and what reports do.
HARDER_DIGITS: Final = "digits-harder"
PICTURES_OF_A_DIGIT: Final = 2
HARDER_PIXELS: Final = 32
#: Largest amounts: tan of half the angle (33 degrees), share of the size, pixels of the 8; chosen
#: by float32's top-1 alone: 79 %, with 99 % before.
MOST_TURN: Final = 0.3
MOST_ZOOM: Final = 0.1
MOST_SHIFT: Final = 1.2


@cache
def digit_images() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Load the images, uint8[1797, 8, 8] (0 to 255, ink is bright), and classes, int64[1797]."""
    with np.load(DIGITS_FILE, allow_pickle=False) as file:
        counts, classes = file["images"], file["classes"]
    images = np.floor(counts * (255 / LARGEST_COUNT) + 0.5).astype(np.uint8)
    return images, classes.astype(np.int64)


def digits(preprocessing: Preprocessing, *, held_out: bool) -> Dataset:
    """Open the digits.

    Every third image is held out for evaluation (599 images); the embedded model is trained, and
    calibrated, on the others (1,198). The split does not depend on a random generator, so no
    version of one can mix the two.

    Parameters
    ----------
    preprocessing : Preprocessing
        How images become inputs.
    held_out : bool
        True for the evaluation part, False for the training part.
    """
    images, labels = digit_images()
    chosen = tuple(i for i in range(len(images)) if (i % 3 == 2) == held_out)
    return Dataset(
        name="digits (held out)" if held_out else "digits (training part)",
        source=ArraySource(images),
        preprocessing=preprocessing,
        labels=labels,
        indices=chosen,
    )


# ---- the harder view -----------------------------------------------------------------------------
def harder_digits(preprocessing: Preprocessing) -> Dataset:
    """Open a harder view of the held-out digits: 1,198 images, each digit as two pictures.

    Every picture is turned, zoomed and shifted (`distorted`) by amounts of its own, which are the
    same everywhere and for ever. The embedded model has seen smaller ones in training.

    Parameters
    ----------
    preprocessing : Preprocessing
        How images become inputs.
    """
    images, labels = digit_images()
    chosen = np.repeat(np.arange(2, len(images), 3), PICTURES_OF_A_DIGIT)
    return Dataset(
        name=HARDER_DIGITS,
        source=ArraySource(distorted(images[chosen])),
        preprocessing=preprocessing,
        labels=labels[chosen],
    )


def distorted(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Turn, zoom and shift every image, each differently.

    Only additions, multiplications and divisions in a fixed order: every machine gives the same
    pixels.

    Parameters
    ----------
    images : uint8[N, 8, 8]
        Grey images, ink is bright.

    Returns
    -------
    uint8[N, 32, 32]
        Their pixels are read between those of `images` (bilinear, dark outside).
    """
    count, size = len(images), images.shape[1]
    amounts = _uniform((4, count, 1, 1)) * 2 - 1
    half = MOST_TURN * amounts[0]  # tan of half the angle
    cos, sin = (1 - half * half) / (1 + half * half), 2 * half / (1 + half * half)
    zoom = 1 + MOST_ZOOM * amounts[1]
    at = (np.arange(HARDER_PIXELS) + 0.5) * (size / HARDER_PIXELS) - size / 2
    rows, columns = at[:, np.newaxis], at[np.newaxis]
    middle = size / 2 - 0.5
    pixels = _between(
        np.pad(images.astype(np.float64), ((0, 0), (1, 1), (1, 1))),
        (cos * rows - sin * columns) * zoom + MOST_SHIFT * amounts[2] + middle + 1,
        (sin * rows + cos * columns) * zoom + MOST_SHIFT * amounts[3] + middle + 1,
    )
    result: NDArray[np.uint8] = np.clip(np.floor(pixels + 0.5), 0, 255).astype(np.uint8)
    return result


def _between(
    images: NDArray[np.float64], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Read float64[N, H, W] at float64[N, h, w] places between pixels; outside at the border."""
    last = images.shape[1] - 1
    rows, columns = np.clip(rows, 0, last), np.clip(columns, 0, last)
    top, left = (np.minimum(x.astype(np.int64), last - 1) for x in (rows, columns))
    down, right = rows - top, columns - left
    image = np.arange(len(images))[:, np.newaxis, np.newaxis]
    above = images[image, top, left] * (1 - right) + images[image, top, left + 1] * right
    below = images[image, top + 1, left] * (1 - right) + images[image, top + 1, left + 1] * right
    result: NDArray[np.float64] = above * (1 - down) + below * down
    return result


def _uniform(shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return numbers in [0, 1) out of PCG64's bits, which no version of numpy changes."""
    bits = np.random.PCG64(0).random_raw(math.prod(shape))
    result: NDArray[np.float64] = ((bits >> np.uint64(11)) * 2.0**-53).reshape(shape)
    return result
