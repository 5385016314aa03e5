"""The bundled gauges: their pointers point where the class says; the pictures never change."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from flow.data import gauges as module
from flow.data.datasets import Preprocessing
from flow.data.gauges import (
    CALIBRATION_SEED,
    EVALUATION_SEED,
    FIRST_TRAINING_SEED,
    GAUGES_CLASSES,
    class_degrees,
    draw_gauges,
    gauges,
    random_classes,
)

ALL = np.arange(GAUGES_CLASSES)


def test_the_pictures_never_change() -> None:
    pixels = draw_gauges(ALL, seed=EVALUATION_SEED)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (200, 32, 32, 3))
    classes = random_classes(125, seed=CALIBRATION_SEED)
    digest = hashlib.sha256(pixels.tobytes() + classes.tobytes()).hexdigest()
    assert digest == "9f03f65bc72f5eabbebc24dde9f5c1b214fb898e6fa65155b645fa899a7b6adf"


def test_evaluation_and_calibration_are_apart() -> None:
    recipe = Preprocessing.for_input((1, 3, 32, 32), ratio=1.0)
    held_out, calibration = gauges(recipe, held_out=True), gauges(recipe, held_out=False)
    assert (len(held_out), len(calibration)) == (2000, 125)
    assert held_out.name == "gauges (held out)" and held_out[7].shape == (1, 3, 32, 32)
    assert held_out.targets is not None and calibration.targets is not None
    assert np.bincount(held_out.targets).tolist() == [10] * GAUGES_CLASSES
    assert len(np.unique(calibration.targets)) > 80  # of any class
    assert max(EVALUATION_SEED, CALIBRATION_SEED) < FIRST_TRAINING_SEED
    kinds = [draw_gauges(ALL, seed=seed) for seed in (EVALUATION_SEED, CALIBRATION_SEED, 1000)]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(kinds[one].astype(int) - kinds[other]).mean((1, 2, 3)).min() > 1


def test_pointers_point_where_their_class_says() -> None:
    """The centre of gravity of what is dark between the hub and the marks."""
    usual = np.full((GAUGES_CLASSES, module._AMOUNTS), 0.5)  # in the middle, evenly lit
    drawn = module._draw(class_degrees(ALL), usual).mean(-1)
    at = np.arange(32) - 15.5
    y, x = at[:, np.newaxis], at[np.newaxis]
    ring = (np.hypot(x, y) > 3.5) & (np.hypot(x, y) < 8)
    dark = (drawn.max((1, 2))[:, np.newaxis, np.newaxis] - drawn) * ring
    found = np.degrees(np.arctan2((dark * x).sum((1, 2)), -(dark * y).sum((1, 2))))
    expected = -135 + 1.35 * ALL
    np.testing.assert_allclose((found - expected + 180) % 360 - 180, 0, atol=0.67)


def test_a_picture_depends_on_class_seed_and_number(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = draw_gauges(ALL, seed=5)
    np.testing.assert_array_equal(draw_gauges(ALL[:7], seed=5), whole[:7])
    monkeypatch.setattr(module, "_AT_A_TIME", 3)
    np.testing.assert_array_equal(draw_gauges(ALL, seed=5), whole)
    assert len(np.unique(draw_gauges(np.zeros(20, np.int64), seed=5), axis=0)) == 20


def test_noise_is_faint(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = draw_gauges(ALL, seed=5).astype(int)
    monkeypatch.setattr(module, "MOST_NOISE", 0.0)
    change = noisy - draw_gauges(ALL, seed=5)
    assert np.abs(change).max() == 2 and abs(change.mean()) < 0.02


def test_random_classes_are_all_as_likely() -> None:
    counts = np.bincount(random_classes(40_000, seed=9), minlength=GAUGES_CLASSES)
    assert len(counts) == GAUGES_CLASSES and 130 < counts.min() and counts.max() < 270


def page_picture() -> NDArray[np.uint8]:
    """Return what docs/gauges.png shows: every 12th class, 8 in a row, pixels three times as large.

    ``Image.fromarray(page_picture()).save("docs/gauges.png", optimize=True)`` writes it.
    """
    drawn = draw_gauges(ALL, seed=EVALUATION_SEED)[: 16 * 12 : 12]
    rows = np.concatenate([np.concatenate([*drawn[k : k + 8]], axis=1) for k in (0, 8)])
    return rows.repeat(3, axis=0).repeat(3, axis=1)


def test_the_pictures_of_the_documentation() -> None:
    """The second is one gauge, to try the commands on; its class is 42."""
    for name, expected in (
        ("gauges", page_picture()),
        ("gauge", draw_gauges(ALL, seed=EVALUATION_SEED)[42]),
    ):
        with Image.open(Path(__file__).parents[3] / "docs" / f"{name}.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), expected)
