"""A compiled model that has travelled computes the same."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from flow import sent_model
from flow.cache.modules import UnknownModuleError
from flow.data.models import DIGITS, bundled_data, load_model
from flow.pipeline import Pipeline
from flow.results.evaluate import run_all
from flow.sent_model import SentModel, model_elsewhere, start
from flow.worker_request import ALONE, Workers
from vta_config import VTAConfig


@pytest.fixture(scope="module")
def compiled() -> Any:
    model = load_model(DIGITS)
    data = bundled_data(model)
    assert data is not None
    pipeline = Pipeline(model, VTAConfig.load("default"))
    pipeline.calibrate(data[1].take(8))
    return pipeline.compile(pipeline.quantize("profiled_fused")), data[0].take(40)


def test_the_same_model_comes_back(compiled: Any) -> None:
    model, data = compiled
    sent = SentModel.of(model, "fsim")
    assert sent is not None
    copy = pickle.loads(pickle.dumps(sent)).model()
    assert copy.config == model.config and copy.host == model.host
    assert [p.to_bytes() for p in copy.programs] == [p.to_bytes() for p in model.programs]
    for engine in ("fsim", "tsim"):
        network = start(SentModel(**{**_fields(sent), "engine": engine}))
        assert np.array_equal(network(data[0]), model.network()(data[0]))


def _fields(sent: SentModel) -> Mapping[str, Any]:
    return {name: getattr(sent, name) for name in ("module", "programs", "machine")}


@pytest.mark.parametrize("count", [2, 3])
def test_rows_are_the_same_elsewhere(compiled: Any, count: int) -> None:
    model, data = compiled
    expected = run_all(model.network(), data, values=10)
    elsewhere = model_elsewhere(model, "fsim", data, Workers(jobs=count))
    moves: list[tuple[int, int]] = []

    def progress(done: int, total: int, note: str = "", /) -> None:
        moves.append((done, total))

    def never(image: object) -> Any:
        raise AssertionError

    found = run_all(never, data, values=10, elsewhere=elsewhere, progress=progress)
    assert np.array_equal(found, expected) and moves == [(k, 40) for k in range(1, 41)]


def test_what_runs_here(compiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = compiled
    assert model_elsewhere(model, "fsim", data, ALONE) is None

    def unknown(mod: object) -> None:
        raise UnknownModuleError("an operator")

    monkeypatch.setattr(sent_model, "packed", unknown)
    assert model_elsewhere(model, "fsim", data, Workers(jobs=2)) is None
