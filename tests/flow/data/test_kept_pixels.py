"""Decoded pictures are kept, as many as fit."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flow.data.datasets import Preprocessing, image_folder
from flow.data.kept_pixels import KeptPixels


def pixels(value: int) -> np.ndarray:
    return np.full((4, 4, 3), value, np.uint8)


def test_pixels_are_made_once_and_only_the_first_are_kept() -> None:
    kept, made = KeptPixels(2 * 48), []

    def get(index: int) -> np.ndarray:
        return kept.get(index, lambda: made.append(index) or pixels(index))

    for _ in range(2):
        assert [int(get(index)[0, 0, 0]) for index in (7, 5, 9)] == [7, 5, 9]
    assert made == [7, 5, 9, 9]


def test_it_travels_empty() -> None:
    kept = KeptPixels(48)
    empty = pickle.dumps(kept)
    kept.get(0, lambda: pixels(1))
    assert pickle.dumps(kept) == empty
    assert pickle.loads(empty).get(0, lambda: pixels(2))[0, 0, 0] == 2


def test_a_data_set_decodes_each_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(3):
        Image.fromarray(pixels(50 * index)).save(tmp_path / f"{index}.png")
    recipe = Preprocessing(height=4, width=4, resize=4)
    data = image_folder(tmp_path, recipe, labelled=False)
    plain = [data[index] for index in range(3)]
    keeping, read = data.keeping_pixels(), []
    monkeypatch.setattr(
        "flow.data.datasets.read_picture", lambda p: read.append(p) or Image.open(p)
    )
    for some in (keeping, keeping.at([1, 2]), keeping.take(2, seed=1)):
        for index, image in enumerate(some):
            position = index if some.indices is None else some.indices[index]
            np.testing.assert_array_equal(image, plain[position])
    assert len(read) == 3
