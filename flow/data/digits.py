"""Handwritten digits that come with the package: 1,797 images of 8x8 pixels, 10 classes.

They are the test part of "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak,
UCI Machine Learning Repository, 1998, doi:10.24432/C50P49; CC BY 4.0, see DIGITS_LICENSE.txt beside
this file). ``scripts/make_digits.py`` makes digits.npz from scikit-learn's copy.
"""

from __future__ import annotations

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
