"""A model with its machine and images is checked before any long work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from flow.data.datasets import ArraySource, Dataset
from flow.data.models import DIGITS, load_model, preprocessing_of
from flow.deploy import deploy
from flow.frontend.importer import ImportedModel, import_model
from flow.input_request import InputRequest
from flow.options import (
    MAIN_VARIANTS,
    VARIANTS,
    Options,
)
from flow.session import (
    calibrate,
    check_driver,
    chosen_variants,
    open_data,
    open_session,
    schedule_cache,
)
from flow.stages import Stages
from relay_passes.calibration.distill_options import DistillOptions
from tests.flow.data.test_datasets import write_image
from tests.flow.fakes import FakeBackend
from tests.flow.onnx_models import norm_model, save, tiny_model
from vta_config import VTAConfig
from vta_config.errors import (
    ArtifactError,
    CalibrationError,
    ConfigError,
    UnsupportedModelError,
)


@pytest.fixture(scope="module")
def digits() -> ImportedModel:
    return load_model(DIGITS)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> ImportedModel:
    return import_model(save(tiny_model(), tmp_path_factory.mktemp("model") / "mine.onnx"))


def test_variants_that_are_measured(digits: ImportedModel, mine: ImportedModel) -> None:
    assert chosen_variants(Options(), digits) == VARIANTS
    assert chosen_variants(Options(), mine) == MAIN_VARIANTS
    assert chosen_variants(Options(variants=("best",)), mine) == ("best",)


def test_one_calibration_without_data_is_enough(digits: ImportedModel) -> None:
    usual = chosen_variants(Options(zero_shot=True), digits)
    assert "best" in usual and "best_zero_shot" not in usual
    given = ("best", "best_zero_shot")
    assert chosen_variants(Options(zero_shot=True, variants=given), digits) == given


def test_calibration_without_data(mine: ImportedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = ArraySource(np.zeros((3, 8, 8), np.uint8))
    data = Dataset(name="distilled", source=noise, preprocessing=preprocessing_of(mine))
    asked: list[object] = []

    def distilled(model: object, request: object, stages: object, *, cache: object) -> Dataset:
        asked.append((model, request, cache))
        return data

    monkeypatch.setattr("flow.distill.distilled_images", distilled)
    request = DistillOptions(images=3)
    options = Options(model=str(mine.path), zero_shot=True, distill=request, variants=("best",))
    session = open_session(options, Stages(), needs_images=False, factory=FakeBackend)
    assert session.calibration is data
    ((model, *rest),) = asked  # type: ignore[misc]
    assert model.sha256 == mine.sha256 and rest == [request, None]
    options = replace(options, variants=("single_scale",))
    assert open_session(options, Stages(), needs_images=False, factory=FakeBackend)
    assert len(asked) == 1  # nothing needs images


def test_variants_without_data_need_no_folder(mine: ImportedModel) -> None:
    options = Options(variants=("best_zero_shot",))
    assert open_data(options, mine, needs_images=False) == (None, None)


def test_tensors_for_a_model_of_five_channels(tmp_path: Path) -> None:
    model = import_model(save(norm_model(channels=5), tmp_path / "five.onnx"))
    for name in ("eval/0/a.npy", "eval/4/b.npy", "calib/c.npy"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / name, np.zeros((5, 8, 8), np.float32))
    options = Options(images=tmp_path / "eval", calibration=tmp_path / "calib")
    evaluation, calibration = open_data(options, model, needs_images=True)
    assert evaluation is not None and calibration is not None and len(calibration) == 1
    assert evaluation.targets is not None and evaluation.targets.tolist() == [0, 4]
    assert evaluation[0].shape == (1, 5, 8, 8)


def test_images_that_a_model_brings(digits: ImportedModel) -> None:
    evaluation, calibration = open_data(Options(limit=7), digits, needs_images=True)
    assert evaluation is not None and calibration is not None
    assert (len(evaluation), len(calibration)) == (7, 125)
    assert open_data(Options(limit=7), digits, needs_images=False)[0] is None
    same, _ = open_data(Options(limit=7), digits, needs_images=True)
    other, _ = open_data(Options(limit=7, seed=1), digits, needs_images=True)
    assert same is not None and other is not None
    np.testing.assert_array_equal(np.stack(list(same)), np.stack(list(evaluation)))
    assert not np.array_equal(np.stack(list(other)), np.stack(list(evaluation)))


def test_a_harder_view_of_images_that_a_model_brings(
    digits: ImportedModel,
    mine: ImportedModel,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    options = Options(images=Path("digits-harder"), calibration=tmp_path / "calib", limit=7)
    write_image(tmp_path / "calib" / "b.png")
    evaluation, _ = open_data(options, digits, needs_images=True)
    assert evaluation is not None and (evaluation.name, len(evaluation)) == ("digits-harder", 7)
    with pytest.raises(
        CalibrationError, match=r"^digits-harder: must be a folder of images, .* noth"
    ):
        open_data(options, mine, needs_images=True)
    write_image(tmp_path / "digits-harder" / "3" / "a.png")  # a folder of that name is meant
    evaluation, _ = open_data(options, digits, needs_images=True)
    assert evaluation is not None and len(evaluation) == 1


def test_folders_take_the_place_of_images_that_a_model_brings(
    digits: ImportedModel, tmp_path: Path
) -> None:
    write_image(tmp_path / "eval" / "3" / "a.png")
    write_image(tmp_path / "calib" / "b.png")
    options = Options(images=tmp_path / "eval", calibration=tmp_path / "calib")
    evaluation, calibration = open_data(options, digits, needs_images=True)
    assert evaluation is not None and calibration is not None
    assert (len(evaluation), len(calibration)) == (1, 1)
    options = Options(calibration=tmp_path / "calib", variants=("single_scale",))
    assert open_data(options, digits, needs_images=True)[1] is None  # nothing needs it


def test_a_session_has_what_it_was_asked_for() -> None:
    stages = Stages()
    options = Options(config="pynq", limit=3, variants=("single_scale",))
    session = open_session(options, stages, factory=FakeBackend)
    assert session.machine == VTAConfig.load("pynq") and session.model.name == DIGITS
    assert session.evaluation is not None and len(session.evaluation) == 3
    calibrate(session, stages)
    assert session.calibration is None and list(stages.seconds) == ["import"]


def test_schedules_are_kept_in_the_cache(tmp_path: Path) -> None:
    assert schedule_cache(tmp_path) == tmp_path / "schedules.json"


def test_a_file_that_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "bad.so").write_text("no library" * 100)
    with pytest.raises(ArtifactError, match=r"bad.so: must be a loadable shared library, got "):
        check_driver(tmp_path / "bad.so")


def test_own_model_needs_folders(tmp_path: Path) -> None:
    model = save(tiny_model(), tmp_path / "mine.onnx")
    options = Options(model=str(model))
    sentence = (
        r"^--images, --calibration: must be given: mine has no images of its own; give --images "
        r"DIR; --calibration DIR, or --calibration zero-shot$"
    )
    with pytest.raises(CalibrationError, match=sentence):
        open_session(options, Stages(), factory=FakeBackend)
    own = Options(model=str(model), variants=("single_scale",))
    with pytest.raises(CalibrationError, match=r"^--images: must be given: mine has no images of"):
        open_session(own, Stages(), factory=FakeBackend)
    with pytest.raises(CalibrationError, match=r"--calibration: must be given: mine has no im"):
        open_session(options, Stages(), needs_images=False, factory=FakeBackend)


def test_all_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    model = save(tiny_model(shape=("N", 3, "H", "W")), tmp_path / "mine.onnx")
    sentence = (
        r"^--input-shape, --images, --calibration: must be given: \S*mine.onnx leaves the size of "
        r"its input open, \['N', 3, 'H', 'W'\], and has no images of its own; give --input-sh"
    )
    with pytest.raises(CalibrationError, match=sentence):
        open_session(Options(model=str(model)), Stages(), factory=FakeBackend)
    given = Options(model=str(model), variants=("single_scale",))
    with pytest.raises(UnsupportedModelError, match=r"mine input data: must have a static shape"):
        open_session(given, Stages(), needs_images=False, factory=FakeBackend)


def test_what_the_user_says_of_the_input(tmp_path: Path) -> None:
    """In options and in the file beside the model."""
    model = save(tiny_model(shape=("N", 3, "H", "W")), tmp_path / "mine.onnx")
    write_image(tmp_path / "eval" / "a.png")
    text = '{"input_shape": [1, 3, 8, 8], "mean": 0, "scale": 1, "crop": "none"}'
    (tmp_path / "mine.input.json").write_text(text)
    options = Options(
        model=str(model),
        images=tmp_path / "eval",
        variants=("single_scale",),
        request=InputRequest(mean=(10.0,), std=(2.0,)),
    )
    session = open_session(options, Stages(), factory=FakeBackend)
    assert session.model.input_shape == (1, 3, 8, 8) and session.evaluation is not None
    recipe = session.evaluation.preprocessing
    assert recipe is not None
    assert (recipe.mean, recipe.std, recipe.scale) == ((10.0,) * 3, (2.0,) * 3, 1.0)
    assert recipe.resize == (8, 8)


def test_labels_of_a_network_that_is_no_classifier_are_not_read(tmp_path: Path) -> None:
    proto = tiny_model()
    proto.graph.output.append(onnx.helper.make_tensor_value_info("r", 1, [1, 4, 8, 8]))
    model = save(proto, tmp_path / "mine.onnx")
    write_image(tmp_path / "eval" / "900" / "a.png")
    options = Options(model=str(model), images=tmp_path / "eval", variants=("single_scale",))
    session = open_session(options, Stages(), factory=FakeBackend)
    assert session.evaluation is not None and session.evaluation.targets is None


def test_impossible_machine_is_refused_first(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"bad: must have the key"):
        open_session(Options(config=str(tmp_path / "bad.json"), model="nothing"), Stages())


def test_wrong_driver_is_told_first(tmp_path: Path) -> None:
    (tmp_path / "bad.so").write_text("no library" * 100)
    options = Options(engine="driver", driver=tmp_path / "bad.so", model="nothing")
    sentence = r"bad.so: must be a loadable shared library, got .*header; pass the path of a VTA dr"
    with pytest.raises(ArtifactError, match=sentence):
        open_session(options, Stages(), factory=FakeBackend)


def test_cache_of_a_search_is_tried_first(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    options = Options(search=True, cache=tmp_path / "file" / "x", model="nothing")
    with pytest.raises(ArtifactError, match=r"must be a folder .*; choose another --cache"):
        open_session(options, Stages(), factory=FakeBackend)


def test_calibration_only_where_something_needs_it(tmp_path: Path) -> None:
    model = save(tiny_model(), tmp_path / "mine.onnx")
    write_image(tmp_path / "eval" / "0" / "a.png")
    options = Options(
        model=str(model),
        images=tmp_path / "eval",
        variants=("stock_relay", "single_scale"),
        exact_images=0,
    )
    report, _ = deploy(options, Stages(), factory=FakeBackend)
    assert report.calibration is None and "calibrate" not in report.seconds
    assert report.deployed == "single_scale"
    report, _ = deploy(Options(limit=2, variants=("stock_relay",)), Stages(), factory=FakeBackend)
    assert report.calibration is None and report.deployed == "stock_relay"
