"""The bundled digits: the integers that were published, and the same split for ever."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from flow.data.datasets import Preprocessing
from flow.data.digits import DIGITS_FILE, digit_images, digits


def test_digits_parts_are_disjoint_and_whole() -> None:
    recipe = Preprocessing.for_input((1, 3, 32, 32), ratio=1.0)
    held_out, training = digits(recipe, held_out=True), digits(recipe, held_out=False)
    assert (len(held_out), len(training)) == (599, 1198)
    assert held_out.indices is not None and training.indices is not None
    assert not set(held_out.indices) & set(training.indices)
    assert held_out[0].shape == (1, 3, 32, 32)
    assert held_out.targets is not None and set(held_out.targets.tolist()) == set(range(10))


def test_the_held_out_images_never_change() -> None:
    """What scikit-learn's `load_digits` gave, times 255 / 16, every third image."""
    recipe = Preprocessing.for_input((1, 3, 32, 32), ratio=1.0)
    indices = np.asarray(digits(recipe, held_out=True).indices)
    images, classes = digit_images()
    sha256 = hashlib.sha256(images[indices].tobytes() + classes[indices].tobytes()).hexdigest()
    assert sha256 == "fa1cb0059a71ef72b8a29f1f9b361ade5c5557983a297fca32b29275a3e51b5f"
    assert (images.dtype, images.shape, images.max()) == (np.uint8, (1797, 8, 8), 255)
    assert np.bincount(classes).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_they_are_scikit_learns() -> None:
    bunch = pytest.importorskip("sklearn.datasets", reason="no dependency").load_digits()
    with np.load(DIGITS_FILE) as file:
        np.testing.assert_array_equal(file["images"], bunch.images)
        np.testing.assert_array_equal(file["classes"], bunch.target)


def test_their_licence_lies_beside_them() -> None:
    text = (DIGITS_FILE.parent / "DIGITS_LICENSE.txt").read_text()
    assert "CC BY 4.0" in text and "Alpaydin" in text and "Changes:" in text
