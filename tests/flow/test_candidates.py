"""flow.candidates: what a variant becomes, and by which images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from flow.frontend.importer import import_model
from flow.pipeline import Pipeline
from relay_passes.calibration.moments import collect_moments
from relay_passes.scales.bit_widths import UniformWidths, Widths
from relay_passes.scales.block_scales import BlockScales
from relay_passes.selection.choose_variant import SMALL_MARGIN_DB
from relay_passes.variants import VARIANTS
from tests.flow.onnx_models import save, tiny_model
from vta_config import VTAConfig


@pytest.fixture
def pipeline(default_config: VTAConfig, tmp_path: Path) -> Pipeline:
    return Pipeline(import_model(save(tiny_model(), tmp_path / "tiny.onnx")), default_config)


@pytest.mark.slow
def test_a_variant_becomes_what_is_better(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    images = [rng.normal(size=pipeline.model.input_shape).astype(np.float32) for _ in range(4)]
    coarse = UniformWidths(inner=Widths(weight_bits=2))
    spoiled = replace(VARIANTS["best"].options, chooser=BlockScales(), widths=coarse)
    monkeypatch.setitem(VARIANTS, "best", replace(VARIANTS["best"], recipe=lambda _: spoiled))
    pipeline.calibrate(images)
    taken = pipeline.quantize("best")
    choice = pipeline.choices["best"]
    assert choice.chosen != "best" and choice.layers
    behind = {c.name: c.behind(choice.candidates) for c in choice.candidates}
    assert behind["best"] > 10 and behind[choice.chosen] <= SMALL_MARGIN_DB
    assert taken is pipeline.form(choice.chosen)


@pytest.mark.slow
def test_forms_are_judged_by_images_that_they_did_not_learn_from(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    images = [rng.normal(size=pipeline.model.input_shape).astype(np.float32) for _ in range(5)]
    taught: list[set[int]] = []

    def recording(mod: object, seen: list[object], **kwargs: object) -> object:
        taught.append({next(i for i, x in enumerate(images) if x is y) for y in seen})
        return collect_moments(mod, seen, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("flow.learning_moments.collect_moments", recording)
    pipeline.calibrate(images)
    pipeline.quantize("dyadic")
    assert {0, 2, 4} in taught and {1, 3} in taught  # the halves
    assert set(range(5)) in taught  # what is taken has learned from all


def test_one_thread_multiplies_matrices(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    images = [rng.normal(size=pipeline.model.input_shape).astype(np.float32) for _ in range(5)]
    threads: set[int] = set()

    def recording(*args: object, **kwargs: object) -> object:
        found = [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]
        threads.update(found)
        return collect_moments(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr("flow.learning_moments.collect_moments", recording)
    pipeline.calibrate(images)
    pipeline.quantize("best")
    assert threads == {1}
