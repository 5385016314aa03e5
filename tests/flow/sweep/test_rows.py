"""From measurements to rows: each number from what it depends on, and what dominates what."""

from __future__ import annotations

from dataclasses import replace

import pytest

from flow.sweep.costs import area_of, energy_of, usual_constants
from flow.sweep.rows import (
    NO_TIME,
    QUANTITIES,
    compared_of_rows,
    compared_rows,
    effect_fields,
    numbers_of,
)
from flow.sweep.show import better_text
from flow.sweep.where import parse
from tests.flow.sweep.sweeps import ALL, AXES, measured, rows
from vta_config import VTAConfig

DEFAULT = VTAConfig.load("default")


def test_the_numbers_of_a_row() -> None:
    first = rows()[0]
    work = measured(DEFAULT).work
    assert work is not None and first.machine is not None
    assert (first.machine_id, first.state, first.reason) == (1, "measured", "")
    assert first.choices == {"block": 16, "inp-buffer": 32 << 10, "bus": 64}
    assert (first.cycles, first.ms, first.frames_per_s) == (1_300_000, 13.0, 76.923)
    assert first.area is not None and first.energy is not None and first.accuracy is not None
    assert first.area.mm2 == pytest.approx(area_of(DEFAULT, usual_constants()).mm2, abs=1e-6)
    energy = energy_of(DEFAULT, work, usual_constants())
    assert first.energy.mj == pytest.approx(energy.mj, abs=1e-6)
    assert first.energy.dram_mj == pytest.approx(energy.dram_mj, abs=1e-6)
    assert (first.accuracy.quantity, first.accuracy.value) == ("top-1", 0.9)
    assert (first.dram_bytes, first.sram_bytes) == (6_120_000, 480 << 10)
    assert numbers_of(first, ALL) == {
        "latency": 13.0,
        "area": first.area.mm2,
        "energy": first.energy.mj,
        "accuracy": -0.9,
        "host MACs": 10.0,
    }


def test_states() -> None:
    found = rows()
    states = [row.state for row in found]
    assert states == ["measured", "measured", "failed", "failed", *["measured"] * 3, "waiting"]
    assert "must fit 128 bits" in found[2].reason and found[2].machine is None
    assert found[7].reason == NO_TIME and found[7].area is not None and found[7].ms is None


def test_constraints_on_what_was_measured() -> None:
    holds = [
        parse("latency <= 10ms or bus = 128"),
        parse("energy < 1J and dram < 1GiB and cycles > 1"),
        parse("accuracy >= 50% and sqnr > 20 and block >= 16 and area < 100mm2"),
    ]
    found = rows(holds=holds)
    assert [row.state for row in found] == [
        "outside", "measured", "failed", "failed", *["measured"] * 3, "waiting",
    ]  # fmt: skip
    assert found[0].reason == "latency <= 10ms or bus = 128"
    named = rows(holds=[parse("config = other", frozenset({"other"}))])
    assert named[0].state == "outside"
    exact = rows(holds=[parse("accuracy > 99%")])
    assert exact[0].state == "outside"


def test_what_dominates_is_named() -> None:
    found = compared_rows(rows(), ALL)
    assert [row.on_front for row in found] == [
        False, True, None, None, False, True, False, None,
    ]  # fmt: skip
    by = found[0].dominated_by
    assert by is not None and by.machine_id == 2
    (better, *rest) = by.better
    assert (better.quantity, better.own, better.other) == ("latency", 13.0, 11.5)
    assert [c.quantity for c in rest] == ["energy"]  # less static power
    assert [(c.axis, c.own, c.other) for c in by.choices] == [("bus", 64, 128)]
    other = found[6].dominated_by  # more input buffer than machine 6, for nothing
    assert other is not None and {c.axis for c in other.choices} == {"inp-buffer", "bus"}
    assert found[1].dominated_by is None


def test_less_work_on_vta_is_no_advantage() -> None:
    both = rows()
    slow, fast = both[0], replace(both[1], vta_macs=50)
    assert [row.on_front for row in compared_rows([slow, fast], ALL)] == [True, True]
    assert [row.on_front for row in compared_rows([slow, both[1]], ALL)] == [False, True]


def test_a_wider_bus_dominates_only_where_it_is_free() -> None:
    narrow, wide = rows()[:2]
    compared = compared_of_rows([narrow, wide], QUANTITIES)
    assert compared == ("latency", "area", "energy", "accuracy", "bus")  # the clock is one
    assert [row.on_front for row in compared_rows([narrow, wide], compared)] == [True, True]
    twin = replace(narrow, machine_id=9, ms=20.0)
    found = compared_rows([wide, twin], compared)
    assert [row.on_front for row in found] == [True, True]
    slow = replace(wide, machine_id=9, ms=20.0, energy=narrow.energy)
    by = compared_rows([narrow, slow], compared)[1].dominated_by
    assert by is not None
    assert ("bus", 128, 64) in [(c.quantity, c.own, c.other) for c in by.better]
    assert "bus 128 → 64" in better_text(by)
    effects = effect_fields("net", rows(), compared, {"bus": (64, 128)})
    assert "bus" not in effects[0].differences and effects[0].high_dominates == 0


def test_an_exact_network_is_the_most_accurate() -> None:
    both = rows()[:2]
    assert both[0].accuracy is not None
    exact = replace(both[0], accuracy=replace(both[0].accuracy, quantity="SQNR", value=None))
    found = compared_rows([exact, both[1]], ALL)
    assert [row.on_front for row in found] == [True, True]
    worse = replace(both[0], ms=20.0, area=both[0].area)
    found = compared_rows([replace(exact, ms=1.0), replace(worse, machine_id=2)], ALL)
    by = found[1].dominated_by
    assert by is not None and ("accuracy", 1e308) in [(c.quantity, c.other) for c in by.better]


def test_effects() -> None:
    from flow.sweep.space import read_axis

    found = effect_fields("net", rows(), ALL, dict(map(read_axis, AXES)))
    by_axis = {effect.axis: effect for effect in found}
    assert set(by_axis) == {"block", "inp-buffer", "bus"}
    bus = by_axis["bus"]
    assert (bus.pairs, bus.high_dominates, bus.low_dominates) == (2, 2, 0)
    assert bus.factors["latency"] == pytest.approx((11.5 / 13 + 6.5 / 8) / 2, abs=1e-6)
    assert bus.differences["accuracy"] == 0 and bus.factors["accuracy"] is None
