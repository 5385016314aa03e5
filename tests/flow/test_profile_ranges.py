"""Profiles by several workers are those of one process."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from flow import profile_ranges
from flow.cache.modules import UnknownModuleError
from flow.data.models import DIGITS, bundled_data, load_model
from flow.kept_pictures import Pictures
from flow.pipeline import Pipeline
from flow.profile_ranges import profile_elsewhere, profiles_of
from flow.worker_request import ALONE, Workers
from relay_passes.params import TensorProfile
from vta_config import VTAConfig


@pytest.fixture(scope="module")
def digits() -> Any:
    model = load_model(DIGITS)
    data = bundled_data(model)
    assert data is not None
    return model, data[1].take(40)


@pytest.mark.slow
def test_profiles_are_the_same(digits: Any) -> None:
    model, data = digits
    machine, counts = VTAConfig.load("default"), list[int]()
    expected = Pipeline(model, machine).calibrate(data)
    found = Pipeline(model, machine, workers=Workers(jobs=2)).calibrate(data, counts.append)
    assert list(found) == list(expected) and counts == [16, 32, 40]
    for name, own in expected.items():
        for field in fields(TensorProfile):
            a, b = getattr(found[name], field.name), getattr(own, field.name)
            assert np.array_equal(a, b) and np.asarray(a).dtype == np.asarray(b).dtype, name


def test_what_is_profiled_here(digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, data = digits
    assert profile_elsewhere(model.mod, data, ALONE) is None
    assert profile_elsewhere(model.mod, data.take(16), Workers(jobs=2)) is None
    folded = Pipeline(model, VTAConfig.load("default")).folded
    here = profiles_of(folded, [data[0]], Workers(jobs=2))
    assert list(here) == list(profiles_of(folded, Pictures(data, range(1)), Workers(jobs=2)))

    def unknown(mod: object) -> None:
        raise UnknownModuleError("an operator")

    monkeypatch.setattr(profile_ranges, "packed", unknown)
    assert profile_elsewhere(model.mod, data, Workers(jobs=2)) is None
