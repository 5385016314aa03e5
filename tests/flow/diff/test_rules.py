"""flow.diff.rules: the grammar of --fail-on, and which changes break a rule."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flow.diff.compare import compare
from flow.diff.rules import KNOWN, broken, parse_rules
from tests.flow.diff.reports import Report, diff_of, report, side, variant
from vta_config.errors import ConfigError


def test_grammar() -> None:
    rules = parse_rules(["sqnr<-0.5, cycles>+1%", " top1 <= -0.2points ,", "mismatches>0"])
    assert [(r.quantity.name, r.compare, r.change, r.is_percent) for r in rules] == [
        ("sqnr", "<", -0.5, False),
        ("cycles", ">", 1.0, True),
        ("top1", "<=", -0.2, False),
        ("mismatches", ">", 0.0, False),
    ]
    assert [r.text for r in rules] == [
        "sqnr<-0.5", "cycles>+1%", "top1 <= -0.2points", "mismatches>0",
    ]  # fmt: skip
    assert parse_rules([]) == parse_rules(["", " , "]) == ()
    assert parse_rules(["layer_sqnr<-3dB"])[0].change == -3
    assert parse_rules(["cycles>=+1e3cycles"])[0].change == 1000


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("sqnr", "must be rules of a quantity, <, <=, > or >=, and a change, separated by commas"
                 ", got sqnr; write them as 'sqnr<-0.5, cycles>\\+1%'"),
        ("sqnr=-1", "must be rules of a quantity, .* got sqnr=-1; write"),
        ("sqnr<-", "must be rules of a quantity, .* got sqnr<-; write"),
        ("sqnr<-1<2", "must be rules of a quantity, .* got sqnr<-1<2; write"),
        ("speed<-1", "must name a quantity: top1, top5, .*, layer_zero_point, got speed; choose"),
        ("sqnr<0.5", "must have a sign before the change, since it is no value, got sqnr<0.5; "
                     "write sqnr<\\+0.5, or - for a decrease"),
        ("sqnr<-1%", "must have a change of sqnr in dB, got sqnr<-1%; write it as sqnr<-1dB"),
        ("top1<-1%", "must have a change of top1 in points, got top1<-1%; write it as top1<-1poi"),
        ("cycles>+1ms", "must have a change of cycles in cycles or %, got cycles>\\+1ms; write"),
        ("programs>+1dB", "must have a change of programs in %, got programs>\\+1dB; write it as"),
    ],
)  # fmt: skip
def test_what_is_no_rule(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"--fail-on: {sentence}"):
        parse_rules([text])


def failed(rules: str, edit: object, folder: Path) -> list[tuple[str, str]]:
    diff = diff_of(edit, folder)  # type: ignore[arg-type]
    return [(own.where, own.what) for own in broken(parse_rules([rules]), diff)]


def test_rules_apply_to_each_variant(tmp_path: Path) -> None:
    def edit(value: Report) -> None:
        for name, cycles in (("profiled", 1240), ("best", 1250)):
            variant(value, name)["latency"]["cycles"] = cycles

    assert failed("cycles>+1%", edit, tmp_path) == [
        ("best", "latency (cycles): 1,234 → 1,250, +16 (+1.30 %)")
    ]
    assert [where for where, _ in failed("cycles>+0", edit, tmp_path)] == ["profiled", "best"]
    assert failed("cycles>+16", edit, tmp_path) == []
    assert [where for where, _ in failed("cycles>=+16", edit, tmp_path)] == ["best"]
    assert failed("cycles<-1, sqnr<-0.1, sqnr>+0.1", edit, tmp_path) == []


def test_changes_by_decibels_and_points(tmp_path: Path) -> None:
    old = variant(report())

    def edit(value: Report) -> None:
        variant(value).update(sqnr_db=old["sqnr_db"] - 0.5, top1=old["top1"] - 0.1)

    assert failed("sqnr<-0.5, top1<-10", edit, tmp_path) == []  # equal is not below
    assert len(failed("sqnr<=-0.5, top1<=-10", edit, tmp_path)) == 2
    assert len(failed("sqnr<-0.4, top1<-9points", edit, tmp_path)) == 2


def test_results_that_become_exact_or_stop_being_so(tmp_path: Path) -> None:
    def exact(value: Report) -> None:
        variant(value).update(sqnr_db=None)

    assert failed("sqnr<-0.5", exact, tmp_path) == []
    assert [where for where, _ in failed("sqnr>+0.5", exact, tmp_path)] == ["best"]
    a = side(report(), tmp_path / "x")
    value = report()
    exact(value)
    b = side(value, tmp_path / "y")
    assert [own.where for own in broken(parse_rules(["sqnr<-0.5"]), compare(b, a))] == ["best"]


def test_percent_of_nothing_is_infinite(tmp_path: Path) -> None:
    def edit(value: Report) -> None:
        variant(value)["exact"]["mismatches"] = 1

    assert len(failed("mismatches>+1000000%", edit, tmp_path)) == 1
    assert failed("mismatches>+0%", lambda value: None, tmp_path) == []


def test_rules_of_layers(tmp_path: Path) -> None:
    def edit(value: Report) -> None:
        variant(value)["layers"][0]["sqnr_db"] = 16.5

    assert failed("layer_sqnr<-3", edit, tmp_path) == [
        ("best, layer conv1", "SQNR (dB): 20.00 → 16.50, -3.50")
    ]
    assert failed("layer_sqnr<-4, layer_cycles>+0", edit, tmp_path) == []


def test_what_b_lacks_breaks_a_rule(tmp_path: Path) -> None:
    def unknown(value: Report) -> None:
        variant(value)["top1"] = None

    found = failed("top1<-99", unknown, tmp_path)
    assert [where for where, _ in found] == ["best"] and found[0][1].endswith(" → –")
    missing = failed("sqnr<-99", lambda v: v.update(variants=v["variants"][:2]), tmp_path)
    assert missing == [("best", f"{tmp_path / 'b'} does not have this variant")]
    assert failed("", lambda v: v.update(variants=v["variants"][:2]), tmp_path) == []


def test_a_rule_that_nothing_could_break(tmp_path: Path) -> None:
    value = report()
    for own in value["variants"]:
        own["top1"] = None
    a = side(value, tmp_path)
    with pytest.raises(ConfigError, match="must name quantities that .* has, got top1; leave"):
        broken(parse_rules(["top1<-1"]), compare(a, a))


def test_the_page_names_every_quantity_with_its_unit() -> None:
    page = (Path(__file__).parents[3] / "docs" / "diff.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.partition("## JSON")[0].splitlines() if "|" in line]
    units = {name: row[3] for row in rows for name in re.findall(r"`(\w+)`", row[1])}
    assert set(units) == set(KNOWN)
    for name, quantity in KNOWN.items():
        assert f"`{quantity.unit}`" in units[name] or not quantity.unit, name
        assert ("`%`" in units[name]) is quantity.is_relative, name
