"""Pictures of a timed program: where the texts go, and what layers without points do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.sim import plots
from flow.sim.timing_report import TimingResult
from flow.sim.tsim import TSim
from tests.flow.compiler.networks import residual_network
from vta_config import VTAConfig

COORDINATE = st.floats(0, 300, allow_nan=False)
POINTS = st.lists(st.tuples(COORDINATE, COORDINATE), max_size=25)


@given(POINTS)
def test_groups_are_a_partition_of_what_lies_close(points: list[tuple[float, float]]) -> None:
    groups = plots._groups(points, apart=4)
    assert sorted(k for group in groups for k in group) == list(range(len(points)))
    for first, *others in groups:
        for k in others:
            assert abs(points[k][0] - points[first][0]) < 4 > abs(points[k][1] - points[first][1])


@given(st.lists(st.tuples(COORDINATE, COORDINATE), max_size=12))
def test_few_texts_do_not_cover_one_another(points: list[tuple[float, float]]) -> None:
    size, texts = 6.0, [str(k) for k in range(len(points))]
    wall = [(150.0, y, 1.0, 1.0) for y in range(0, 300, 2)]
    offsets = plots._place(points, texts, size, wall)
    boxes = [
        (x + dx, y + dy, 0.32 * size * len(t) + 1, 0.6 * size)
        for (x, y), (dx, dy), t in zip(points, offsets, texts, strict=True)
    ]
    for k, (x, y, w, h) in enumerate(boxes):
        for u, v, other_w, other_h in boxes[:k] + wall:
            assert abs(x - u) > w + other_w or abs(y - v) > h + other_h


@pytest.fixture(scope="module")
def timed(default_config: VTAConfig) -> TSim:
    graph = residual_network(np.random.default_rng(1), size=8)
    return TSim(make_program(graph, lower(graph, default_config), default_config))


def _text(result: TimingResult, timed: TSim, folder: Path) -> str:
    (path,) = plots.plot_roofline(result, timed.program.config, folder / "roofline", ("svg",))
    (bars,) = plots.plot_layers(result, folder / "layers", ("svg",))
    return path.read_text(encoding="utf-8") + bars.read_text(encoding="utf-8")


def test_roof_of_a_profile(timed: TSim, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    peak = timed.program.config.batch * timed.program.config.block**2
    assert f"<!-- GEMM: {peak} MACs per cycle -->" in _text(timed.result, timed, tmp_path)
    old = TSim(timed.program, profile="chisel-simple")
    assert f"<!-- GEMM: {peak / 4:g} MACs per cycle -->" in _text(old.result, old, tmp_path)


def test_a_layer_below_its_roofline_says_why(timed: TSim, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    first, *others = timed.result.layers
    result = replace(timed.result, layers=(replace(first, floor=2 * first.cycles), *others))
    text = _text(result, timed, tmp_path)
    assert f"GEMM {first.utilization:.1%}, −50.0%:" in text
    assert "<!-- the layer before loaded ahead -->" in text
    assert "0: faster than the roofline, since the layer" in text and "+-" not in text
    told = [plots.above_text(replace(first, floor=f)) for f in (0, first.cycles)]
    assert told == ["–", "+0.0%"]
    plain = _text(replace(timed.result, layers=(replace(first, floor=1),)), timed, tmp_path)
    assert "loaded ahead" not in plain and "faster than" not in plain


def test_legends_are_words(timed: TSim, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    text = _text(timed.result, timed, tmp_path)
    assert "<!-- LOAD: reading DRAM -->" in text and "<!-- load -->" not in text
    assert "<!-- roofline: products and reads alone -->" in text


def test_no_multiplications_no_points(timed: TSim, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    layers = tuple(replace(x, gemm_steps=0, floor=0) for x in timed.result.layers)
    text = _text(replace(timed.result, layers=layers), timed, tmp_path)
    assert "bound by" not in text and "– above the rooflines" in text
