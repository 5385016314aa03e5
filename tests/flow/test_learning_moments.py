"""Moments from calibration's own pass are those of a pass of their own, bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flow.data.models import DIGITS, bundled_data, load_model
from flow.learning_moments import LearningMoments
from flow.pipeline import Pipeline
from flow.system.threads import blas_threads
from relay_passes.calibration.moments import Moments
from vta_config import VTAConfig


@pytest.fixture(scope="module")
def digits() -> Any:
    model = load_model(DIGITS)
    data = bundled_data(model)
    assert data is not None
    return Pipeline(model, VTAConfig.load("default")), data[1].take(6)


def test_both_ways_give_the_same_bits(digits: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline, data = digits
    pipeline.calibrate(data, learns=True)
    again = LearningMoments(pipeline.folded, pipeline.images)
    with blas_threads(1):
        expected = again.of(pipeline.folded, ())
    monkeypatch.setattr("flow.learning_moments.collect_moments", None)  # not needed
    found = pipeline._moments.of(pipeline.folded, ())
    assert list(found) == list(expected)
    for name, own in expected.items():
        taken = found[name]
        assert isinstance(own, Moments) and isinstance(taken, Moments)
        assert own.samples == taken.samples and own.unit == taken.unit
        np.testing.assert_array_equal(taken.mean, own.mean)
        assert own.covariance is not None and taken.covariance is not None
        np.testing.assert_array_equal(taken.covariance, own.covariance)


def test_without_images_nothing_is_kept(digits: Any) -> None:
    pipeline, _ = digits
    moments = LearningMoments(pipeline.folded, [])
    assert moments.start() == set()
    moments.add({})
    moments.finish()
    assert moments._kept is None
