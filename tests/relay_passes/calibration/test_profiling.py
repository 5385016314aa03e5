"""Profiling nodes, their records and how records merge."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tvm import relax

from relay_passes.calibration import profiling
from relay_passes.calibration.profiling import (
    BINS,
    InsertProfiling,
    Profiler,
    merge_profiles,
    profile,
    profiled_tensors,
    record,
)
from relay_passes.graph import read_graph
from relay_passes.host.run import HostModule
from relay_passes.params import TensorProfile
from relay_passes.quantize_model import prepare
from tests.relay_passes.models import CNN, images, residual_net
from vta_config.errors import CalibrationError


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=50))
def test_record(values: list[float]) -> None:
    found = record(np.asarray(values, np.float32))
    lo, hi, limit = found[:3]
    assert (lo, hi) == (min(values), max(values))
    assert limit >= max(-lo, hi) and found[3:].sum() == len(values)
    width = 2 * limit / BINS
    first = int(np.flatnonzero(found[3:])[0])
    assert first * width - limit <= lo + width * 1e-3
    assert lo <= (first + 1) * width - limit + width * 1e-3


def test_pieces_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    whole = record(values)
    monkeypatch.setattr(profiling, "_PIECE", 7)
    np.testing.assert_array_equal(record(values), whole)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_merged_histograms_equal_the_histogram_of_all(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    parts = [
        rng.integers(-64, 65, 100).astype(np.float32) * np.float32(2.0 ** rng.integers(-4, 3))
        for _ in range(count)
    ]
    merged = None
    for part in parts:
        merged = profiling._merge(merged, record(part))
    assert merged is not None
    together = record(np.concatenate(parts))
    # a value equal to the limit lies in the last bin, whose edge moves when limits grow
    assert list(merged[:3]) == together[:3].tolist()
    difference = np.cumsum(merged[3] - together[3:])
    assert merged[3].sum() == 100 * count
    assert np.abs(difference).max() <= sum(int((np.abs(p) == 64 * 4).sum()) + 1 for p in parts) * 9


@pytest.mark.parametrize("cuts", [(3,), (1, 4), (1, 2, 3, 4)])
def test_merged_profiles_equal_the_profiles_of_all_images(cuts: tuple[int, ...]) -> None:
    mod = prepare(residual_net())
    x = [image * np.float32(4.0 ** (k % 3)) for k, image in enumerate(images(5))]
    profiler, edges = Profiler(mod), (0, *cuts, 5)
    parts = [profiler.run(x[first:last], first=first) for first, last in pairwise(edges)]
    found, expected = merge_profiles(parts), profile(mod, x)
    assert list(found) == list(expected)
    for name, own in expected.items():
        for field in fields(TensorProfile):
            a, b = getattr(found[name], field.name), getattr(own, field.name)
            assert np.array_equal(a, b), (name, field.name)


def test_an_image_is_named_by_its_number() -> None:
    profiler = Profiler(prepare(residual_net()))
    with pytest.raises(
        CalibrationError, match=r"^calibration image 17: must have shape .*, got \["
    ):
        profiler.run([*images(1), np.zeros((1, 1), np.float32)], first=16)


def test_every_float_tensor_is_profiled() -> None:
    mod = prepare(residual_net())
    x = images(3)
    seen: list[int] = []
    found = profile(mod, x, progress=seen.append)
    assert seen == [1, 2, 3]
    assert tuple(found) == profiled_tensors(mod)
    assert len(found) == len(read_graph(mod).bindings) + 1
    data = found["data"]
    assert (data.lo, data.hi) == (np.min(x), np.max(x))
    assert data.samples == 3 and data.histogram.sum() == np.size(x)
    assert data.sample_hi.tolist() == [np.abs(i).max() for i in x]
    assert found["conv0.relu"].lo == 0.0 and found["conv0"].lo < 0
    assert isinstance(data, TensorProfile)


def test_nodes_leave_the_result_alone() -> None:
    mod = prepare(residual_net())
    x = images(1)[0]
    before, after = HostModule(mod)(x), HostModule(InsertProfiling()(mod))(x)
    np.testing.assert_allclose(after[0], before[0], rtol=1e-5)
    assert len(after) == 1 + len(profiled_tensors(mod))


def test_only_float_tensors_are_profiled() -> None:
    net = CNN()
    mod = net.module(net.emit(relax.op.astype(net.relu(net.data), "int32")))
    assert profiled_tensors(mod) == ("data", "lv0")


def test_no_image_and_wrong_shape() -> None:
    mod = prepare(residual_net())
    with pytest.raises(CalibrationError, match="calibration: must have at least one image, got 0;"):
        profile(mod, [])
    with pytest.raises(
        CalibrationError,
        match=r"calibration image 0: must have shape \[1, 3, 12, 12\], got \[3, 12, 12\]; prep",
    ):
        profile(mod, [images(1)[0][0]])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(bad: float) -> None:
    good, x = images(2)
    x[0, 0, 0, 0] = bad
    for order in ([good, x], [x, good]):
        with pytest.raises(CalibrationError, match="data: must have finite values during calibra"):
            profile(prepare(residual_net()), order)
