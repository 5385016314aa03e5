"""flow.distill: images are written batch by batch, found again, and never mixed with others."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from flow import distill as job
from flow.data.distilled import image_name, read_record, write_images
from flow.distill import distill_into, distilled_images, draw
from flow.frontend.importer import ImportedModel, import_model
from flow.stages import Stages
from relay_passes.calibration.distill import DistilledBatch, DistillOptions
from tests.flow.data.test_datasets import write_image
from tests.flow.fakes import Recorder
from tests.flow.onnx_models import norm_model, save, tiny_model
from vta_config.errors import (
    ArtifactError,
    CalibrationError,
    ConfigError,
    FlowError,
    UnsupportedModelError,
)

OPTIONS = DistillOptions(images=5, batch=2, steps=3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ImportedModel:
    return import_model(save(norm_model(), tmp_path_factory.mktemp("model") / "normed.onnx"))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Put noise in the place of what PyTorch makes; return the numbers of the batches made."""
    numbers: list[int] = []

    def noise(
        mod: Any,
        options: DistillOptions,
        *,
        done: Collection[int] = (),
        progress: Callable[[int, int], None] | None = None,
    ) -> Iterator[DistilledBatch]:
        for number in range(options.batches):
            if number in done:
                continue
            if progress is not None:
                progress(number + 1, options.batches)
            numbers.append(number)
            rng = np.random.default_rng([options.seed, number])
            images = rng.normal(size=(options.batch, 3, 8, 8)).astype(np.float32)
            losses = np.linspace(2, 1, options.steps).astype(np.float32)
            left = options.images - number * options.batch
            yield DistilledBatch(number=number, images=images[:left], losses=losses)

    monkeypatch.setattr(job, "distill", noise)
    return numbers


def images_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.npy"))


def test_a_folder_of_tensors(model: ImportedModel, tmp_path: Path, made: list[int]) -> None:
    display, lines = Recorder(), list[str]()
    out = tmp_path / "a" / "b"
    found = distill_into(out, model, OPTIONS, Stages(display), told=lines.append)
    assert made == [0, 1, 2] and found.kept == 0 and found.record.images == 5
    assert images_in(out) == [image_name(i) for i in range(5)]
    image = np.load(out / image_name(4))
    assert image.shape == (3, 8, 8) and image.dtype == np.float32
    data = found.dataset()
    assert len(data) == 5 and data.name == "distilled from normed"
    np.testing.assert_array_equal(data[4][0], image)
    assert [line.split(" in ")[0] for line in lines] == [
        "batch 1/3: 2 images", "batch 2/3: 2 images", "batch 3/3: 1 images",
    ]  # fmt: skip
    assert all(line.endswith(", loss 2 to 1") for line in lines)
    assert display.texts[0] == "distilling 5 images" and display.moves[-1] == (3, 3)
    assert display.open_bars == 0


def test_pictures_of_them(model: ImportedModel, tmp_path: Path, made: list[int]) -> None:
    paths = draw(distill_into(tmp_path, model, OPTIONS, Stages()))
    assert [path.name for path in paths][:2] == ["contact-sheet.png", "losses.csv"]
    with Image.open(paths[0]) as sheet:
        assert sheet.size == (3 * 64 + 4, 2 * 64 + 2)
    assert paths[1].read_text().splitlines()[:2] == ["batch,step,loss", "1,1,2"]
    if len(paths) > 2:  # with matplotlib
        assert paths[2].name == "losses.png" and paths[2].stat().st_size > 1000


def test_a_run_that_was_stopped_goes_on(
    model: ImportedModel, tmp_path: Path, made: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, noise = tmp_path / "whole", job.distill
    distill_into(whole, model, OPTIONS, Stages())

    def stopped(*args: Any, **kwargs: Any) -> Iterator[DistilledBatch]:
        yield next(noise(*args, **kwargs))
        raise KeyboardInterrupt

    out = tmp_path / "out"
    monkeypatch.setattr(job, "distill", stopped)
    with pytest.raises(KeyboardInterrupt):
        distill_into(out, model, OPTIONS, Stages())
    monkeypatch.setattr(job, "distill", noise)
    made.clear()
    lines: list[str] = []
    found = distill_into(out, model, OPTIONS, Stages(), told=lines.append)
    assert made == [1, 2] and found.kept == 1
    assert lines[0] == "batch 1/3: 2 images, made before"
    for name in images_in(whole):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    made.clear()
    assert distill_into(out, model, OPTIONS, Stages()).kept == 3 and made == []


def test_more_images_and_those_that_are_missing(
    model: ImportedModel, tmp_path: Path, made: list[int]
) -> None:
    distill_into(tmp_path, model, OPTIONS, Stages())
    made.clear()
    (tmp_path / image_name(0)).unlink()
    found = distill_into(tmp_path, model, replace(OPTIONS, images=8), Stages())
    assert made == [0, 2, 3]  # the third one was not whole
    assert [batch.number for batch in found.record.batches] == [0, 1, 2, 3]
    assert found.record == read_record(tmp_path) and len(images_in(tmp_path)) == 8
    made.clear()
    (tmp_path / image_name(7)).write_bytes(b"damaged")
    distill_into(tmp_path, model, replace(OPTIONS, images=8), Stages())
    assert made == [3]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"steps": 4}, "got --steps 3 before and 4 now"),
        ({"batch": 5}, "got --batch 2 before and 5 now"),
        ({"seed": 1}, "got --seed 0 before and 1 now"),
        ({"swing": False}, "got no --no-swing before and --no-swing now"),
        ({"generator": False}, "got no --no-generator before and --no-generator now"),
    ],
)
def test_other_options_are_refused(
    model: ImportedModel, tmp_path: Path, made: list[int], change: dict[str, Any], sentence: str
) -> None:
    distill_into(tmp_path, model, OPTIONS, Stages())
    with pytest.raises(
        ConfigError,
        match=f": must hold images made with the same options, {sentence}; choose another --output"
        ", or the same options to continue$",
    ):
        distill_into(tmp_path, model, replace(OPTIONS, **change), Stages())


def test_fewer_images_are_refused(model: ImportedModel, tmp_path: Path, made: list[int]) -> None:
    distill_into(tmp_path, model, OPTIONS, Stages())
    sentence = r"--images: must be at least 5, the number of images in .*, got 4; choose another"
    with pytest.raises(ConfigError, match=sentence):
        distill_into(tmp_path, model, replace(OPTIONS, images=4), Stages())


def test_another_model_is_refused(model: ImportedModel, tmp_path: Path, made: list[int]) -> None:
    distill_into(tmp_path, model, OPTIONS, Stages())
    other = replace(model, name="other", sha256="12" * 32)
    with pytest.raises(
        ConfigError,
        match=r": must hold images of the same model, other \(sha256 121212121212\), got normed "
        r"\(sha256 \w{12}\); choose another --output$",
    ):
        distill_into(tmp_path, other, OPTIONS, Stages())


def test_other_images_are_not_mixed_with(
    model: ImportedModel, tmp_path: Path, made: list[int]
) -> None:
    write_images(tmp_path, np.zeros((1, 3, 8, 8), np.float32), 0)
    distill_into(tmp_path, model, OPTIONS, Stages())  # as a killed run leaves it
    write_image(tmp_path / "own" / "cat.png")
    with pytest.raises(
        CalibrationError, match=r": must hold no other images, got cat.png; choose another --output"
    ):
        distill_into(tmp_path / "own", model, OPTIONS, Stages())


def test_folder_that_cannot_be_made(model: ImportedModel, tmp_path: Path, made: list[int]) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match=r"must be a folder that can be written to, got .*file"):
        distill_into(tmp_path / "file", model, OPTIONS, Stages())


def test_lock_that_cannot_be_made(model: ImportedModel, tmp_path: Path, made: list[int]) -> None:
    (tmp_path / ".distill.lock").mkdir()
    with pytest.raises(
        ArtifactError,
        match=r"must be a folder that can be written to, got Is a directory; choose another",
    ):
        distill_into(tmp_path, model, OPTIONS, Stages())


def test_images_are_kept_in_the_cache(
    model: ImportedModel, tmp_path: Path, made: list[int]
) -> None:
    request = DistillOptions(images=4, batch=2, steps=3)
    first = distilled_images(model, request, Stages(), cache=tmp_path)
    again = distilled_images(model, request, Stages(), cache=tmp_path)
    np.testing.assert_array_equal(np.stack(list(first)), np.stack(list(again)))
    assert made == [0, 1]
    for other in (replace(request, images=2), replace(request, seed=1)):
        distilled_images(model, other, Stages(), cache=tmp_path)
    assert made == [0, 1, 0, 0, 1] and len(list((tmp_path / "distilled").iterdir())) == 3
    (tmp_path / "file").write_text("x")
    with pytest.raises(ArtifactError, match=r"; choose another --cache$"):
        distilled_images(model, request, Stages(), cache=tmp_path / "file")


def test_without_torch(
    model: ImportedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ConfigError, match=r'must have PyTorch .*pip install "vta-flow\[torch\]"'):
        distill_into(tmp_path / "out", model, OPTIONS, Stages())


# ---- with PyTorch --------------------------------------------------------------------------------
@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_any_number_of_channels(tmp_path: Path, channels: int) -> None:
    pytest.importorskip("torch")
    proto = norm_model(channels=channels, size=10)
    model = import_model(save(proto, tmp_path / "normed.onnx"))
    options = DistillOptions(images=3, batch=2, steps=2)
    found = distill_into(tmp_path / "out", model, options, Stages())
    assert {x.shape for x in found.dataset()} == {(1, channels, 10, 10)}
    record = json.loads((tmp_path / "out" / "distilled.json").read_text())
    assert [len(batch["losses"]) for batch in record["batches"]] == [2, 2]
    assert len(draw(found)) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("proto", [tiny_model(), norm_model(folded=True)], ids=["none", "folded"])
def test_models_without_statistics(tmp_path: Path, proto: Any) -> None:
    pytest.importorskip("torch")
    model = import_model(save(proto, tmp_path / "m.onnx"))
    with pytest.raises(UnsupportedModelError, match="BatchNorm") as raised:
        distill_into(tmp_path / "out", model, OPTIONS, Stages())
    assert isinstance(raised.value, FlowError) and not images_in(tmp_path / "out")
