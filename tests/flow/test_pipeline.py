"""flow.pipeline: what every caller of it relies on, beside what the backend's tests show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from flow.data.datasets import ArraySource, Dataset, Preprocessing
from flow.frontend.importer import import_model
from flow.kept_pictures import Pictures
from flow.pipeline import LEARNING_IMAGES, Pipeline
from relay_passes.calibration.profiling import profile
from relay_passes.learning.learn import Learned
from relay_passes.learning.options import BlockLearner
from relay_passes.variants import VARIANTS
from tests.flow.onnx_models import save, tiny_model
from vta_config import VTAConfig
from vta_config.errors import CalibrationError


@pytest.fixture
def pipeline(default_config: VTAConfig, tmp_path: Path) -> Pipeline:
    return Pipeline(import_model(save(tiny_model(), tmp_path / "tiny.onnx")), default_config)


def test_calibration_does_not_share_an_image_between_threads(pipeline: Pipeline) -> None:
    threads: set[int] = set()

    def images() -> object:
        for seed in range(2):
            threads.update(p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas")
            rng = np.random.default_rng(seed)
            yield rng.normal(size=pipeline.model.input_shape).astype(np.float32)

    assert pipeline.calibrate(images())  # type: ignore[arg-type]
    assert threads == {1}


@pytest.mark.slow
def test_scaled_channels_are_profiled_once(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    images = [rng.normal(size=pipeline.model.input_shape).astype(np.float32) for _ in range(3)]
    counts: list[int] = []

    def counting(mod: object, images: list[object], **kwargs: object) -> object:
        counts.append(len(images))
        return profile(mod, images, **kwargs)  # type: ignore[arg-type]

    pipeline.calibrate(images)
    monkeypatch.setattr("flow.profile_ranges.profile", counting)
    pipeline.quantize("equalized")
    pipeline.quantize("per_tensor")
    assert counts == [3]
    pipeline.quantize("best")
    assert counts == [3]


@pytest.mark.slow
def test_learners_see_all_images_for_as_long_as_is_asked(
    tmp_path: Path, default_config: VTAConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[BlockLearner, int]] = []

    def learning(
        mod: Any, scales: Any, weights: Any, images: Any, options: BlockLearner, **others: Any
    ) -> Learned:
        asked.append((options, len(list(images))))
        others["progress"](1, 2, "stem")
        return Learned(mod=mod, scales=scales, weights=weights)

    monkeypatch.setattr("relay_passes.quantize_model.learn", learning)
    monkeypatch.setattr("flow.pipeline.LEARNING_IMAGES", 2)
    own = BlockLearner(steps=5)
    options = replace(VARIANTS["best"].options, learner=own)
    monkeypatch.setitem(VARIANTS, "best", replace(VARIANTS["best"], recipe=lambda _: options))
    pipeline = Pipeline(
        import_model(save(tiny_model(), tmp_path / "tiny.onnx")),
        default_config,
        learning=lambda learner: replace(learner, steps=1),
    )
    source = ArraySource(np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), np.uint8))
    scaling = Preprocessing(height=8, width=8, resize=8, channels=3)
    pipeline.calibrate(Dataset(name="noise", source=source, preprocessing=scaling))
    told: list[tuple[int, int, str]] = []
    pipeline.quantize("best", lambda *how_far: told.append(how_far))
    assert asked[0] == (replace(own, steps=1), 5) and told[0] == (1, 2, "stem")
    assert {count for _, count in asked[1:]} <= {1}  # halves of those that are kept


def test_unknown_variant(pipeline: Pipeline) -> None:
    with pytest.raises(CalibrationError, match=r"variant: must be among stock_relay, .*, got x; "):
        pipeline.quantize("x")


def test_one_form_needs_no_comparison(pipeline: Pipeline) -> None:
    rng = np.random.default_rng(0)
    pipeline.calibrate([rng.normal(size=pipeline.model.input_shape).astype(np.float32)])
    pipeline.quantize("profiled_fused")
    choice = pipeline.choices["profiled_fused"]
    assert choice.chosen == "profiled_fused" and not choice.candidates and not choice.layers


def test_images_of_a_data_set_are_not_kept(pipeline: Pipeline) -> None:
    source = ArraySource(np.zeros((130, 8, 8, 3), np.uint8))
    scaling = Preprocessing(
        height=8, width=8, resize=8, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    pipeline.calibrate(Dataset(name="zeros", source=source, preprocessing=scaling))
    assert isinstance(pipeline._images, Pictures)
    assert len(pipeline._images) == LEARNING_IMAGES < len(source)


def test_another_machine_without_calibration(pipeline: Pipeline) -> None:
    rng = np.random.default_rng(0)
    shape = pipeline.model.input_shape
    pipeline.calibrate([rng.normal(size=shape).astype(np.float32) for _ in range(3)])
    other = pipeline.on_machine(VTAConfig.load("block32"), 2)
    assert other.profiles == pipeline.profiles and other.folded is pipeline.folded
    assert (len(other.images), len(pipeline.images)) == (2, 3)
    compiled = other.compile(other.quantize("profiled_fused"))
    assert compiled.config.block == 32 and "profiled_fused" in other.choices
    assert pipeline.config.block == 16 and not pipeline.choices


def test_options_of_a_variant(pipeline: Pipeline) -> None:
    assert pipeline.options_of("single_scale") == VARIANTS["single_scale"].options
    with pytest.raises(CalibrationError, match="must be given a model that is quantized already"):
        pipeline.options_of("keep")
