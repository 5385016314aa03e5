"""A contact sheet shows images of any number of channels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flow.results.contact_sheet import MAX_TILES, contact_sheet


def drawn(images: Any) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(contact_sheet(images))) as picture:
        assert picture.format == "PNG" and picture.mode == "RGB"
        return np.asarray(picture)


def test_values_are_scaled_to_0_to_255() -> None:
    ramp = np.linspace(-3, 5, 3 * 64 * 64, dtype=np.float32).reshape(1, 3, 64, 64)
    sheet = drawn(ramp)
    assert sheet.shape == (64, 64, 3)
    assert sheet[0, 0, 0] == 0 and sheet[-1, -1, 2] == 255
    assert (np.diff(sheet[..., 0].ravel().astype(int)) >= 0).all()
    assert sheet[0, 0, 0] < sheet[0, 0, 1] < sheet[0, 0, 2]  # one scale for the three


def test_one_channel_is_grey_and_small_images_are_enlarged() -> None:
    sheet = drawn(np.array([[[[0.0, 1.0], [1.0, 0.0]]]], np.float32))
    assert sheet.shape == (64, 64, 3)
    assert (sheet[:32, :32] == 0).all() and (sheet[:32, 32:] == 255).all()


def test_each_of_other_channels_is_a_tile() -> None:
    image = np.zeros((5, 64, 64), np.float32)
    image[:, :, 32:] = np.arange(1, 6).reshape(5, 1, 1)
    sheet = drawn([image])
    assert sheet.shape == (2 * 64 + 2, 3 * 64 + 2 * 2, 3)  # 3 + 2 tiles, 2 pixels apart
    for top, left in ((0, 0), (0, 66), (0, 132), (66, 0), (66, 66)):
        tile = sheet[top : top + 64, left : left + 64]
        assert (tile[:, :32] == 0).all() and (tile[:, 32:] == 255).all()


@pytest.mark.parametrize(
    ("shape", "count", "size"),
    [
        ((3, 64, 64), 4, (130, 130)),
        ((1, 64, 64), 2, (64, 130)),
        ((3, 448, 224), 1, (224, 112)),
        ((3, 1, 1000), 1, (1, 224)),
        ((1, 64, 64), MAX_TILES + 5, (10 * 66 - 2, 10 * 66 - 2)),
    ],
)
def test_sizes(shape: tuple[int, ...], count: int, size: tuple[int, int]) -> None:
    images = np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)
    assert drawn(images).shape[:2] == size


@pytest.mark.parametrize("value", [0.0, 1e38, -7.0])
def test_constant_images(value: float) -> None:
    assert (drawn([np.full((3, 64, 64), value, np.float32)]) == 128).all()
