"""From measurements to rows: time, area, energy, constraints, the front, what dominates what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Final, cast

from flow.machines.axes import AXES, AxisValue, sram_bytes
from flow.results.sweep_document import (
    AccuracyFields,
    AreaFields,
    Changed,
    Compared,
    Dominating,
    EffectFields,
    EnergyFields,
    SweepRow,
)
from flow.sweep.costs import Constants, area_of, energy_of
from flow.sweep.front import Point, better_in, differences, dominating, effects, front
from flow.sweep.measure import Measured
from flow.sweep.networks import Accuracy
from flow.sweep.space import Machine, machine_quantity
from flow.sweep.where import Condition

#: What the model of area and energy has no price for: more of it is better for latency, and worse
#: as such, so that a machine dominates only those that have as much of it.
UNPRICED: Final = ("bus", "clock")
#: What the front may compare, in the order of tables.
QUANTITIES: Final = ("latency", "area", "energy", "accuracy", *UNPRICED)
#: What a row leaves to the host also counts, so that no machine looks fast because it does less.
HOST: Final = "host MACs"
#: Axes besides those of machines.
CONFIG, VARIANT = "config", "variant"
#: Why a row was not measured.
NO_TIME: Final = "the time was over"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A machine, a variant of a model, and what was measured of them so far."""

    machine: Machine
    model: str
    variant: str
    measured: Measured | None
    accuracy: Accuracy | None = None


def accuracy_fields(accuracy: Accuracy) -> AccuracyFields:
    """Return an accuracy as documents have it."""
    m = accuracy.metrics
    return AccuracyFields(
        quantity=accuracy.quantity,
        value=accuracy.value,
        images=m.images,
        top1=m.top1,
        top5=m.top5,
        agreement=m.agreement,
        sqnr_db=m.sqnr_db,
        centred_sqnr_db=m.centred_sqnr_db,
    )


def row_of(found: Found, constants: Constants, holds: Sequence[Condition]) -> SweepRow:
    """Return the row of a machine, before rows are compared."""
    machine, measured = found.machine, found.measured
    row = SweepRow(
        machine_id=machine.number,
        model=found.model,
        variant=found.variant,
        config=machine.config,
        choices=dict(machine.choices),
        machine=machine.machine,
        state="failed",
        reason=machine.reason,
    )
    config = machine.machine
    if config is None:
        return row
    area = area_of(config, constants)
    row = replace(
        row,
        sram_bytes=sram_bytes(config),
        area=AreaFields(**_rounded(asdict(area)), mm2=_round(area.mm2)),
    )
    if measured is None:
        return replace(row, state="waiting", reason=NO_TIME)
    if (work := measured.work) is None:
        return replace(row, reason=measured.reason)
    energy = energy_of(config, work, constants)
    ms = 1e3 * work.cycles / config.clock_hz
    row = replace(
        row,
        state="measured",
        reason="",
        cycles=work.cycles,
        ms=round(ms, 6),
        frames_per_s=round(1e3 / ms, 3) if ms else None,
        dram_bytes=work.dram_bytes,
        gemm_utilization=round(work.utilization, 6),
        bound=work.bound,
        bound_share=work.bound_share,
        macs=measured.macs,
        vta_macs=measured.vta_macs,
        host_operators=measured.host_operators,
        programs=measured.programs,
        energy=EnergyFields(**_rounded(asdict(energy)), mj=_round(energy.mj)),
        accuracy=None if found.accuracy is None else accuracy_fields(found.accuracy),
    )
    broken = [c.text for c in holds if not _holds(c, row)]
    return replace(row, state="outside", reason=", ".join(broken)) if broken else row


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {key: _round(value) for key, value in values.items()}


def _round(value: float) -> float:
    """Return a number with as many digits as a model is good for, and more."""
    return float(f"{value:.8g}")


def _holds(condition: Condition, row: SweepRow) -> bool:
    def lookup(name: str) -> float | str:
        if name == CONFIG:
            return row.config
        assert row.machine is not None and row.area is not None and row.energy is not None
        assert row.cycles is not None and row.ms is not None and row.dram_bytes is not None
        accuracy = row.accuracy
        if name in ("accuracy", "sqnr"):
            assert accuracy is not None
            value = accuracy.value if name == "accuracy" else accuracy.centred_sqnr_db
            return float("inf") if value is None else value
        measured: dict[str, float] = {
            "cycles": row.cycles,
            "latency": 1e-3 * row.ms,
            "energy": 1e-3 * row.energy.mj,
            "dram": row.dram_bytes,
        }
        if name in measured:
            return measured[name]
        area = row.area.mm2
        found = machine_quantity(name, row.machine, lambda machine: area)
        assert found is not None, name
        return found

    return condition.test(lookup)


# ---- comparing -----------------------------------------------------------------------------------
def numbers_of(row: SweepRow, compared: Sequence[str]) -> dict[str, float]:
    """Return what the front compares of a row; smaller is better."""
    assert row.ms is not None and row.area is not None and row.energy is not None
    assert row.machine is not None
    values = {"latency": row.ms, "area": row.area.mm2, "energy": row.energy.mj}
    values |= {name: float(AXES[name].value_of(row.machine)) for name in UNPRICED}
    if row.accuracy is not None:
        value = row.accuracy.value
        values["accuracy"] = float("-inf") if value is None else -value
    numbers = {name: values[name] for name in compared}
    numbers[HOST] = float((row.macs or 0) - (row.vta_macs or 0))
    return numbers


def compared_of_rows(rows: Sequence[SweepRow], compared: Sequence[str]) -> tuple[str, ...]:
    """Return what can be compared of measured rows: not what they all have, or some have not."""
    machines = [row.machine for row in rows if row.machine is not None]

    def differs(name: str) -> bool:
        return len({AXES[name].value_of(machine) for machine in machines}) > 1

    known = all(row.accuracy is not None for row in rows)
    return tuple(
        name
        for name in compared
        if (known if name == "accuracy" else name not in UNPRICED or differs(name))
    )


def point_of(row: SweepRow, compared: Sequence[str]) -> Point:
    """Return a measured row as a point."""
    return Point(
        key=(row.machine_id, row.variant),
        numbers=numbers_of(row, compared),
        choices={VARIANT: row.variant, CONFIG: row.config, **row.choices},
    )


def compared_rows(rows: Sequence[SweepRow], compared: Sequence[str]) -> list[SweepRow]:
    """Say of each measured row of one model whether it is on the front, and what beats it."""
    measured = [row for row in rows if row.state == "measured"]
    points = {(r.machine_id, r.variant): point_of(r, compared) for r in measured}
    best = front([*points.values()])
    kept = {point.key for point in best}
    result = []
    for row in rows:
        point = points.get((row.machine_id, row.variant))
        if point is None:
            result.append(row)
            continue
        by = None if point.key in kept else dominating(point, best)
        result.append(
            replace(
                row,
                on_front=point.key in kept,
                dominated_by=None if by is None else _dominating(point, by),
            )
        )
    return result


def _dominating(own: Point, by: Point) -> Dominating:
    machine_id, variant = cast("tuple[int, str]", by.key)  # as `point_of` makes it
    return Dominating(
        machine_id=machine_id,
        variant=variant,
        better=tuple(
            Compared(quantity=k, own=_plain(k, own.numbers[k]), other=_plain(k, by.numbers[k]))
            for k in better_in(by.numbers, own.numbers)
        ),
        choices=tuple(
            Changed(axis=k, own=_choice(own.choices[k]), other=_choice(by.choices[k]))
            for k in differences(by, own)
        ),
    )


def _plain(quantity: str, value: float) -> float:
    """Return a compared number as people know it; an infinite one as the largest that JSON has."""
    plain = -value if quantity == "accuracy" else value
    return plain if abs(plain) < float("inf") else 1e308


def _choice(value: object) -> AxisValue:
    assert isinstance(value, int | float | str)
    return value


def effect_fields(
    model: str,
    rows: Sequence[SweepRow],
    compared: Sequence[str],
    axes: Mapping[str, Sequence[AxisValue]],
) -> list[EffectFields]:
    """Return what each choice changes, over the measured rows of one model."""
    points = [point_of(r, compared) for r in rows if r.state == "measured"]
    finite = [p for p in points if all(abs(v) < float("inf") for v in p.numbers.values())]
    found = []
    for effect in effects(finite, axes):
        names = [name for name in effect.differences if name not in (HOST, *UNPRICED)]
        found.append(
            EffectFields(
                model=model,
                axis=effect.axis,
                low=_choice(effect.low),
                high=_choice(effect.high),
                pairs=effect.pairs,
                factors={
                    n: None if (f := effect.factors[n]) is None else round(f, 6) for n in names
                },
                differences={n: round(_plain(n, effect.differences[n]), 6) for n in names},
                high_dominates=effect.high_dominates,
                low_dominates=effect.low_dominates,
            )
        )
    return found
