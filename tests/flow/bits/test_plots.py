"""Pictures are drawn of any names, and of nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.bits.plots import PlotPoint, ends_of_share, plot_bits, plot_pareto


def test_a_share_ends_at_100_percent() -> None:
    assert ends_of_share(97.0, 103.0) == (97.0, 100.0) and ends_of_share(-9.0, 60.0) == (0.0, 60.0)
    assert ends_of_share(99.9, 100.1) == (99.0, 100.0)  # all are 100 %


def test_pictures_of_odd_names_and_of_nothing(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    point = PlotPoint(
        label="$x_", uniform=False, ms=None, megabytes=1.0, shares={"agreement, %": 50.0},
        bits={"\x1b[31m$": (4, 16)},
    )  # fmt: skip
    for points in ([], [point]):
        assert plot_pareto(points, "$", tmp_path / "pareto")[0].is_file()
        assert plot_bits(points, "$", tmp_path / "bits")[1].is_file()
