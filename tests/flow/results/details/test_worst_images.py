"""The images with the largest errors."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flow.data.datasets import ArraySource, Dataset, FileSource, Preprocessing
from flow.outputs import Output
from flow.results.details.worst_images import PIXELS, SHOWN, png, worst_images


def dataset(count: int, labels: bool = True) -> Dataset:
    pixels = np.random.default_rng(2).integers(0, 256, (count, 8, 8), np.uint8)
    return Dataset(
        name="noise",
        source=ArraySource(pixels),
        preprocessing=Preprocessing(
            height=8, width=8, resize=8, channels=1, mean=(0.5,), std=(0.5,)
        ),
        labels=np.arange(count) % 3 if labels else None,
    )


def test_other_answers_come_first() -> None:
    data = dataset(12)
    reference = np.zeros((12, 3), np.float32)
    reference[:, 1] = 10
    logits = reference.copy()
    logits[5] = (10, 0, 0)  # another answer
    logits[7, 2] = 4  # a large error
    logits[8, 2] = 1
    found = worst_images(data, logits, reference)
    assert found.evaluated == 12 and found.differing == 1 and len(found.images) == SHOWN
    assert [image.name for image in found.images[:3]] == ["image 5", "image 7", "image 8"]
    first, second = found.images[:2]
    assert (first.label, first.float_class, first.integer_class) == (2, 1, 0)
    assert (second.float_class, second.integer_class) == (1, 1)
    assert second.sqnr_db is not None and second.sqnr_db < 30
    assert found.images[-1].sqnr_db is None  # equal
    assert Image.open(io.BytesIO(base64.b64decode(first.png))).format == "PNG"


def test_a_network_without_classes() -> None:
    reference = np.ones((3, 8), np.float32)
    logits = reference + np.float32([[0.1], [0.5], [0.0]])
    outputs = (Output(name="y", shape=(1, 2, 2, 2)),)
    found = worst_images(dataset(3), logits, reference, outputs)
    assert found.differing is None and found.images[0].name == "image 1"
    assert found.images[0].label is None and found.images[0].float_class is None
    assert found.images[0].sqnr_db == pytest.approx(10 * np.log10(8 / (8 * 0.25)), abs=1e-3)


def test_names_of_files_are_short(tmp_path: Path) -> None:
    path = tmp_path / "cats" / "a.png"
    path.parent.mkdir()
    Image.new("L", (8, 8)).save(path)
    data = Dataset(
        name="cats",
        source=FileSource((path, path)),
        preprocessing=Preprocessing(
            height=8, width=8, resize=8, channels=1, mean=(0.5,), std=(0.5,)
        ),
        indices=(1,),
    )
    found = worst_images(data, np.ones((1, 2), np.float32), np.ones((1, 2), np.float32))
    assert found.images[0].name == "cats/a.png"


def test_what_a_picture_is() -> None:
    for shape in ((1, 3, 300, 200), (1, 1, 8, 8)):
        drawn = Image.open(io.BytesIO(base64.b64decode(png(np.ones(shape, np.float32)))))
        assert max(drawn.size) <= PIXELS
    for shape in ((1, 2, 8, 8), (1, 3, 2, 64), (1, 40), (1, 3, 8), (2, 3, 8, 8)):
        assert png(np.ones(shape, np.float32)) == ""
