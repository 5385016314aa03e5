"""flow.diff.tables: what is shown, in 80 columns."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from flow.diff.compare import ReportDiff
from flow.diff.rules import broken, parse_rules
from flow.diff.tables import NO_DIFFERENCE, largest, render, value_text
from tests.flow.diff.reports import Report, diff_of, variant


def shown(diff: ReportDiff, rules: str = "", most: int = 8) -> str:
    console = Console(file=io.StringIO(), width=80, force_terminal=False)
    console.print(render(diff, broken(parse_rules([rules]), diff), most=most))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def many_layers(value: Report) -> None:
    """Make 20 layers, each a little worse than the one before."""
    (layer,) = variant(value)["layers"]
    variant(value)["layers"] = [layer | {"name": f"conv{i}", "sqnr_db": 20.0} for i in range(20)]


def test_no_difference(tmp_path: Path) -> None:
    text = shown(diff_of(lambda value: None, tmp_path))
    assert NO_DIFFERENCE in text and "A  " in text and "│" not in text


def test_everything_fits_in_80_columns(tmp_path: Path) -> None:
    def edit(value: Report) -> None:
        best = variant(value)
        best["latency"]["cycles"] = 123_456_789
        best["layers"][0] |= {"sqnr_db": 12.25, "scale": 0.5, "name": "conv1"}
        best["placement"]["fallbacks"][0]["reason"] = "a long reason " * 9
        value["options"]["calibration"] = "a/long/path" * 9
        value["variants"].pop(1)

    text = shown(diff_of(edit, tmp_path), "sqnr<-99, layer_sqnr<-1")
    assert max(map(len, text.splitlines())) <= 80
    for part in (
        "options.calibration", "latency (cycles)", "123,456,789", "best: SQNR (dB), layers",
        "│ conv1 │ 20.00 │ 12.25 │  -7.75 │", "best: 1 layer also differs in scale",
        "a long reason",
        "only in A: profiled", "FAILED  best, layer conv1: SQNR (dB): 20.00 → 12.25, -7.75 (layer",
        "FAILED  profiled: ",
    ):  # fmt: skip
        assert part in text, part


def test_the_largest_changes_are_shown(tmp_path: Path) -> None:
    from flow.diff.compare import compare
    from tests.flow.diff.reports import edited, side

    def worse(value: Report) -> None:
        many_layers(value)
        for index, layer in enumerate(variant(value)["layers"]):
            layer["sqnr_db"] -= index * (-1) ** index

    diff = compare(side(edited(many_layers), tmp_path / "a"), side(edited(worse), tmp_path / "b"))
    best = diff.variants[-1]
    assert [x.name for x in largest(best.layers, "layer_sqnr", 3)] == ["conv19", "conv18", "conv17"]
    text = shown(diff, most=3)
    assert "SQNR (dB), the 3 largest changes of 19" in text
    assert "conv17" in text and "conv16" not in text


def test_values_are_one_line() -> None:
    assert value_text(None) == "–" and value_text("a\nb") == "a\\nb"
    assert value_text({"a": [1]}) == '{"a": [1]}' and len(value_text("x" * 500)) == 60
