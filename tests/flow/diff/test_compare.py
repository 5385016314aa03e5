"""flow.diff.compare: identical reports have no difference, and each difference is found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flow.diff.compare import compare, differences
from tests.flow.diff.reports import Report, diff_of, edited, report, side, variant
from vta_config.errors import ConfigError


def test_identical_runs_have_no_difference(tmp_path: Path) -> None:
    def later(value: Report) -> None:
        value.update(date="2030-01-01T00:00:00Z", seconds={"import": 99.0}, command=["x"])

    diff = diff_of(later, tmp_path)
    assert diff.is_empty
    value = diff.to_json()
    assert value["identical"] is True and value["variants"] == value["run"] == value["other"] == []
    assert value["b"]["date"] == "2030-01-01T00:00:00Z"


def test_two_real_runs_have_no_difference(tmp_path: Path) -> None:
    from flow.deploy import deploy
    from flow.options import Options
    from flow.results.report import write_report
    from flow.stages import Stages
    from tests.flow.fakes import FakeBackend

    for name in "ab":
        found, _ = deploy(Options(limit=9, cache=tmp_path / name), Stages(), factory=FakeBackend)
        write_report(found, tmp_path / name)
    from flow.diff.read import read_side

    assert compare(read_side(str(tmp_path / "a")), read_side(str(tmp_path / "b"))).is_empty


def edit_path(value: Any, path: str, new: Any) -> None:
    *inner, last = path.split("/")
    for key in inner:
        value = value[int(key)] if isinstance(value, list) else value[key]
    if isinstance(value, list):
        value[int(last)] = new
    else:
        value[last] = new


@pytest.mark.parametrize(
    ("path", "new", "field"),
    [
        ("tool/numpy", "9.9", "tool.numpy"),
        ("options/seed", 3, "options.seed"),
        ("options/learn/effort", "quick", "options.learn.effort"),
        ("machine/CLOCK_HZ", 1e6, "machine.CLOCK_HZ"),
        ("model/sha256", "0", "model.sha256"),
        ("evaluation/images", 7, "evaluation.images"),
        ("deployed", "profiled", "deployed"),
        ("engine", "tsim", "engine"),
        ("skipped", [{"variant": "w", "reason": "r"}], "skipped"),
    ],
)
def test_fields_of_the_run(path: str, new: Any, field: str, tmp_path: Path) -> None:
    diff = diff_of(lambda value: edit_path(value, path, new), tmp_path)
    (change,) = diff.run
    assert change.field == field and change.new == new and not diff.is_empty
    assert not diff.other and all(v.is_empty for v in diff.variants)


def test_quantities_of_a_variant(tmp_path: Path) -> None:
    def edit(value: Report) -> None:
        variant(value).update(top1=0.5, sqnr_db=None)
        variant(value)["latency"]["cycles"] = 2000

    best = diff_of(edit, tmp_path).variants[-1]
    found = {c.quantity.name: (c.new, c.is_better) for c in best.changed}
    old = variant(report())["top1"]
    assert found == {
        "top1": (0.5, old < 0.5), "sqnr": (float("inf"), True), "cycles": (2000.0, False),
    }  # fmt: skip
    value = best.to_json()["quantities"]
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    by_name = {entry["quantity"]: entry for entry in value}
    assert by_name["sqnr"]["b"] == "exact" and by_name["sqnr"]["change"] is None
    assert by_name["cycles"] == {
        "quantity": "cycles", "a": 1234, "b": 2000, "change": 766.0, "unit": "cycles",
    }  # fmt: skip


def test_layers(tmp_path: Path) -> None:
    def edit(value: Report) -> None:
        (layer,) = variant(value)["layers"]
        variant(value)["layers"] = [layer | {"sqnr_db": 15.0, "scale": 0.5}, layer | {"name": "n"}]

    best = diff_of(edit, tmp_path).variants[-1]
    (layer,) = best.layers
    assert layer.name == "conv1" and layer.of("layer_sqnr") == -5.0 and layer.of("layer_macs") == 0
    assert {c.quantity.name for c in layer.changes} == {"layer_sqnr", "layer_scale"}
    assert best.new_layers == ("n",) and best.old_layers == ()


def test_host_operators_and_other_parts(tmp_path: Path) -> None:
    def edit(value: Report) -> None:
        best = variant(value)
        best["placement"]["fallbacks"] = [
            {"name": "new", "operator": "o", "reason": "why", "node": "", "node_type": ""}
        ]
        best["calibration"]["images"] = 3
        best["latency"]["partial"] = False
        value["plan"]["tensors"]["data"]["scale"] = [0.125]
        value["plan"]["block"] = 32

    diff = diff_of(edit, tmp_path)
    best = diff.variants[-1]
    assert [(c.field, c.old, c.new) for c in best.host] == [
        ("odd", "groups must be 1, got 2", None), ("new", None, "why"),
    ]  # fmt: skip
    assert [(c.field, c.new) for c in best.other] == [
        ("latency.partial", False), ("calibration.images", 3),
    ]  # fmt: skip
    assert [(c.field, c.old, c.new) for c in diff.other] == [
        ("plan.block and 1 more in plan", 16, 32)
    ]


def test_variants_of_one_report_alone(tmp_path: Path) -> None:
    diff = diff_of(lambda v: v.update(variants=v["variants"][:2]), tmp_path)
    assert diff.only_old == ("best",) and diff.only_new == () and not diff.is_empty
    assert [v.name for v in diff.variants] == ["float32", "profiled"]
    assert diff.to_json()["only_in_a"] == ["best"]


def test_two_variants_of_one_report(tmp_path: Path) -> None:
    a, b = (side(report(), tmp_path, name) for name in ("profiled", "best"))
    diff = compare(a, b)
    (pair,) = diff.variants
    assert pair.name == "profiled → best" and not diff.run and not diff.other and not diff.only_old
    assert {c.quantity.name for c in pair.changed} >= {"sqnr"}
    assert compare(a, a).is_empty


def test_one_name_stands_for_both_sides(tmp_path: Path) -> None:
    a, b = side(report(), tmp_path / "a", "best"), side(report(), tmp_path / "b")
    assert [v.name for v in compare(a, b).variants] == ["best"] and compare(b, a).is_empty
    few = side(edited(lambda v: v.update(variants=v["variants"][:2])), tmp_path / "c")
    with pytest.raises(ConfigError, match="c: must have the variant best, got float32, profiled; "):
        compare(a, few)


def test_reports_without_a_common_variant(tmp_path: Path) -> None:
    a = side(edited(lambda v: v.update(variants=v["variants"][:2])), tmp_path / "a")
    b = side(edited(lambda v: v["variants"].pop(1)), tmp_path / "b")
    with pytest.raises(
        ConfigError,
        match="must have a quantized variant in common, got float32, profiled and float32, best; "
        "name a variant of each: .*a:profiled .*b:best",
    ):
        compare(a, b)


def test_an_older_report_is_compared_by_what_it_has(tmp_path: Path) -> None:
    def older(value: Report) -> None:
        value["schema_version"] = 3
        for key in ("tool", "options", "seeds", "objective", "details"):
            del value[key]
        for own in value["variants"]:
            del own["layers"], own["layer_images"]

    diff = diff_of(older, tmp_path)
    assert [(c.field, c.new) for c in diff.run] == [("schema_version", 3)]
    assert all(v.is_empty for v in diff.variants) and not diff.other


def test_values_that_differ_by_path() -> None:
    def paths(old: Any, new: Any) -> list[str]:
        return [change.field for change in differences(old, new, "x")]

    assert paths({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}) == ["x.a[1].b"]
    assert paths({"a": 1}, {"b": 1}) == ["x.a", "x.b"]
    assert paths([1], [1, 2]) == ["x"] and paths({"a": None}, {}) == []
    assert paths(1, 1.0) == [] and paths(True, 1) == ["x"] and paths("1", 1) == ["x"]
