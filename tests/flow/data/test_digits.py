"""The bundled digits: the integers that were published, and the same split for ever."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from flow.data.datasets import Preprocessing
from flow.data.digits import (
    DIGITS_FILE,
    HARDER_DIGITS,
    digit_images,
    digits,
    distorted,
    harder_digits,
)


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


# ---- the harder view -----------------------------------------------------------------------------
def test_the_harder_view_never_changes() -> None:
    recipe = Preprocessing.for_input((1, 3, 32, 32), ratio=1.0)
    harder, held_out = harder_digits(recipe), digits(recipe, held_out=True)
    assert harder.name == HARDER_DIGITS and len(harder) == 2 * len(held_out)
    assert harder.targets is not None and held_out.targets is not None
    np.testing.assert_array_equal(harder.targets, np.repeat(held_out.targets, 2))
    assert harder[5].shape == (1, 3, 32, 32)
    pixels = distorted(digit_images()[0][:100])
    assert (
        hashlib.sha256(pixels.tobytes()).hexdigest()
        == "9e8e4ddaf5b68e0643671d29ec36fd1002efaf93cd6f060e8c9ab2e2a537d08c"
    )
    assert (pixels.dtype, pixels.shape) == (np.uint8, (100, 32, 32))


def test_what_the_harder_view_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """With all amounts 0 but one, on images where the right pixels are known."""
    for amount in ("TURN", "ZOOM", "SHIFT"):
        monkeypatch.setattr(f"flow.data.digits.MOST_{amount}", 0.0)
    even = distorted(np.full((1, 8, 8), 100, np.uint8))
    assert (even[:, 2:-2, 2:-2] == 100).all() and (even[:, 0] < 100).all()  # dark outside
    ramp = np.broadcast_to(np.arange(8, dtype=np.uint8) * 16, (1, 8, 8))
    expected = 16 * ((np.arange(32) + 0.5) / 4 - 0.5)  # between the pixels
    np.testing.assert_allclose(distorted(ramp)[0, 16, 4:27], expected[4:27], atol=0.5)

    point = np.zeros((200, 8, 8), np.uint8)
    point[:, 3:5, 3:5] = 200
    rows = np.arange(32) - 15.5
    for amount, moved in (("SHIFT", True), ("ZOOM", False), ("TURN", False)):
        monkeypatch.setattr(f"flow.data.digits.MOST_{amount}", 0.5)
        pixels = distorted(point).astype(float)
        centre = (pixels.sum(2) * rows).sum(1) / pixels.sum((1, 2))
        assert bool(np.abs(centre).max() > 1.5) is moved, amount  # in pixels of the 32
        assert np.abs(centre).max() < 0.5 * 4 + 0.1
        assert len(np.unique(pixels, axis=0)) > 100
        monkeypatch.setattr(f"flow.data.digits.MOST_{amount}", 0.0)
