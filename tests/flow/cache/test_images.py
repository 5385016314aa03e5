"""Keys of images: content and preprocessing count, names and places do not."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flow.cache.images import image_digests
from flow.data.datasets import Dataset, Preprocessing, image_folder, random_images
from flow.data.digits import digits
from flow.frontend.inputs import ModelInput

HOW = Preprocessing(height=8, width=8, resize=8)
SHAPE = (1, 3, 8, 8)


def keys(data: Dataset) -> tuple[str, ...]:
    found = image_digests(data)
    assert found is not None and len(found) == len(data)
    assert all(len(key) == 64 for key in found)
    return found


def picture(path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def test_pictures(tmp_path: Path) -> None:
    for folder, names in (("one", "abc"), ("two", "cab")):
        (tmp_path / folder).mkdir()
        for seed, name in enumerate(names):
            picture(tmp_path / folder / f"{name}.png", seed)
    one, two = (image_folder(tmp_path / folder, HOW) for folder in ("one", "two"))
    assert len(set(keys(one))) == 3
    assert keys(one) == keys(replace(one, name="other")) == tuple(np.roll(keys(two), 1))
    assert keys(one.at((0, 2))) == (keys(one)[0], keys(one)[2])
    assert keys(one.take(2)) == tuple(keys(one)[i] for i in one.take(2).indices or ())
    for how in (replace(HOW, resize=9), replace(HOW, mean=(0, 0, 0)), replace(HOW, scale=1.0)):
        assert not set(keys(replace(one, preprocessing=how))) & set(keys(one))


def test_a_picture_that_changes(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 1)
    data = image_folder(tmp_path, HOW)
    before = keys(data)
    picture(tmp_path / "a.png", 2)
    os.utime(tmp_path / "a.png", (7, 7))
    assert keys(data) != before
    (tmp_path / "a.png").unlink()
    assert image_digests(data) is None  # whoever reads it says so
    os.mkfifo(tmp_path / "a.png")
    assert image_digests(data) is None  # nothing is waited for


def test_tensors(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(3, 3, 8, 8)).astype(np.float32)
    for folder in ("all", "apart"):
        (tmp_path / folder).mkdir()
    np.save(tmp_path / "all" / "x.npy", images)
    np.savez(tmp_path / "apart" / "x.npz", *images)
    for folder in ("all", "apart"):
        assert len(set(keys(image_folder(tmp_path / folder, None, shape=SHAPE)))) == 3
    data = image_folder(tmp_path / "all", None, shape=SHAPE)
    before = keys(data)
    np.save(tmp_path / "all" / "x.npy", images + 1)
    assert not set(keys(data)) & set(before)


def test_images_of_several_inputs(tmp_path: Path) -> None:
    inputs = [
        ModelInput(name=name, shape=(1, 2), file_shape=(1, 2), layout="NCHW") for name in "ab"
    ]
    np.savez(tmp_path / "x.npz", a=np.zeros((2, 2), np.float32), b=np.ones((2, 2), np.float32))
    data = image_folder(tmp_path, None, inputs=inputs)
    assert len(set(keys(data))) == 2


def test_images_without_files() -> None:
    assert len(set(keys(random_images(SHAPE, 3)))) == 3
    assert keys(random_images(SHAPE, 3))[:2] == keys(random_images(SHAPE, 2))
    assert keys(random_images(SHAPE, 1)) != keys(random_images((1, 3, 8, 9), 1))
    own = digits(Preprocessing.for_input((1, 3, 32, 32)), held_out=True).take(5)
    assert len(set(keys(own))) == 5


@pytest.mark.parametrize("other", [[np.zeros(3)], iter(()), None])
def test_other_images_have_no_keys(other: object) -> None:
    assert image_digests(other) is None


def test_a_source_of_another_kind_has_no_keys() -> None:
    data = random_images(SHAPE, 2)
    assert image_digests(replace(data, source=[1, 2])) is None  # type: ignore[arg-type]
