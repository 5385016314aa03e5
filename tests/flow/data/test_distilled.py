"""flow.data.distilled: what a folder of distilled images says of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flow.data.datasets import image_folder
from flow.data.distilled import (
    LOSS_STEM,
    RECORD_FILE,
    SHEET_FILE,
    BatchRecord,
    Record,
    image_name,
    losses_csv,
    read_record,
    write_images,
    write_record,
)
from tests.flow.data.test_datasets import write_image
from vta_config.errors import CalibrationError

BATCHES = (
    BatchRecord(number=0, first=0, images=2, losses=(2.0, 1.5), seconds=3.5),
    BatchRecord(number=1, first=2, images=1, losses=(2.5, 1.25), seconds=3.25),
)
RECORD = Record(
    model="net",
    sha256="ab",
    shape=(1, 2, 2),
    options={"batch": 2, "steps": 2, "swing": True},
    batches=BATCHES,
)


def test_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert read_record(tmp_path) is None
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD and RECORD.images == 3
    values = json.loads((tmp_path / RECORD_FILE).read_text())
    assert values["images"] == 3 and values["schema_version"] == 1
    assert list(values)[-1] == "batches"  # what is long comes last


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"schema_version": 1}', '{"schema_version": 2}', "\xff", "1e999"]
)
def test_record_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD_FILE).write_text(text, encoding="latin-1")
    with pytest.raises(
        CalibrationError,
        match=r"distilled.json: must be what vta-flow distill wrote, got .*; remove the folder, or "
        "choose another --output",
    ):
        read_record(tmp_path)


def test_images_are_read_as_tensors_beside_their_pictures(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(3, 1, 2, 2)).astype(np.float32)
    write_images(tmp_path, images[:2], 0)
    write_images(tmp_path, images[2:], 2)
    names = [image_name(i) for i in range(3)]
    assert sorted(p.name for p in tmp_path.iterdir()) == names == [*BATCHES[0].files, names[2]]
    write_record(tmp_path, RECORD)
    write_image(tmp_path / SHEET_FILE)
    write_image(tmp_path / f"{LOSS_STEM}.png")
    data = image_folder(tmp_path, None, shape=(1, 1, 2, 2), labelled=False)
    np.testing.assert_array_equal(np.concatenate(list(data)), images)
    (tmp_path / RECORD_FILE).unlink()  # then they are pictures like others
    with pytest.raises(CalibrationError, match=r"must be pictures or float tensors .* not both"):
        image_folder(tmp_path, None, shape=(1, 1, 2, 2), labelled=False)


def test_losses_by_batch_and_step() -> None:
    assert losses_csv(BATCHES) == "batch,step,loss\n1,1,2\n1,2,1.5\n2,1,2.5\n2,2,1.25\n"
    assert losses_csv(replace(RECORD, batches=()).batches) == "batch,step,loss\n"
