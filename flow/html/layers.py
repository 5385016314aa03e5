"""What each layer takes and what bounds it: bars, the table behind them, and the roofline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from markupsafe import Markup

from flow.html import svg, texts
from flow.html.parts import Chart, Charts, Column, Entry, Legend, Lines, Part, Table
from flow.html.values import Missing, Values
from flow.html.variants import NARROW
from flow.sim.timing_report import RESOURCE_WORDS as RESOURCES
from vta_config.hardware import VTAConfig
from vta_config.text import shown_name
from vta_config.timing import PROFILES

_WIDE: Final = (860.0, 420.0)
_BAR: Final = (1000.0, 20.0)
#: Layers of a roofline that get a number each; of more those that take the most cycles.
_NUMBERED: Final = 25
#: Characters of a name in a table.
_NAME_CHARS: Final = 40
AHEAD: Final = "below its roofline: its operands were loaded during the layer before"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """A layer as the report times it.

    Parameters
    ----------
    number : int
        Its place, from 1.
    path : dict of str to float
        Cycles on the critical path by resource; empty in reports of older releases.
    steps, read : float, optional
        GEMM steps that multiply inputs by weights, and bytes read; None where they are not known.
    """

    number: int
    name: str
    cycles: float
    floor: float
    full_floor: float
    bound: str
    utilization: float
    moved: float
    path: dict[str, float]
    steps: float | None
    read: float | None

    @property
    def ahead(self) -> bool:
        """Whether it takes less than its roofline."""
        return self.cycles < self.floor


def timed_layers(report: Values) -> list[Timed]:
    """Return the layers of the deployed variant.

    Raises
    ------
    Missing
        When nothing was timed.
    """
    counters = report.maybe_part("counters")
    rows = [] if counters is None else counters.maybe_parts("layers") or []
    counted = {row.text("name"): row for row in rows if row.maybe_text("kind") != "setup"}
    found = []
    for number, layer in enumerate(report.part("latency").parts("layers"), start=1):
        own, path = counted.get(layer.text("name")), layer.maybe_part("path")
        bytes_read = None
        if own is not None:
            bytes_read = sum(own.number(f"{m}_bytes") for m in ("inp", "wgt", "acc", "uop"))
        found.append(
            Timed(
                number=number,
                name=shown_name(layer.text("name")),
                cycles=layer.number("cycles"),
                floor=layer.number("floor_cycles"),
                full_floor=layer.number("full_floor_cycles"),
                bound=layer.text("bound"),
                utilization=layer.number("gemm_utilization"),
                moved=layer.number("bytes"),
                path={} if path is None else {r: path.maybe_number(r) or 0 for r in RESOURCES},
                steps=None if own is None else own.maybe_number("gemm_conv_ops"),
                read=bytes_read,
            )
        )
    if not found:
        raise Missing("latency.layers")
    return found


def cycles(report: Values) -> list[Part]:
    """Return a row for each layer: its cycles as a bar, and what bounds them.

    Raises
    ------
    Missing
        When nothing was timed.
    """
    layers = timed_layers(report)
    most = max(max(x.cycles, x.floor, x.full_floor) for x in layers) or 1
    total = sum(x.cycles for x in layers) or 1
    ahead = any(x.ahead for x in layers)
    rows: list[Sequence[str | Markup]] = [
        [
            f"{x.number}.{texts.NO_BREAK}{svg.shortened(x.name, _NAME_CHARS)}",
            _bar(x, most),
            texts.count(x.cycles),
            texts.percent(x.cycles / total, 1),
            x.bound.upper(),
            _above(x.cycles, x.floor),
            _above(x.cycles, x.full_floor),
            texts.percent(x.utilization, 1),
            f"{x.moved / 1024:,.0f}",
            *([AHEAD if x.ahead else ""] if ahead else []),
        ]
        for x in layers
    ]
    used = [r for r in RESOURCES if any(x.path.get(r) or x.bound == r for x in layers)]
    entries = [Entry(colour=f"r-{r}", text=RESOURCES[r]) for r in used]
    entries.append(Entry(colour="k-floor", text="roofline: products and reads alone"))
    entries.append(Entry(colour="k-full", text="full roofline: with all GEMM and ALU steps"))
    columns = [
        Column(heading="layer", numeric=False),
        Column(heading="cycles by what they wait for", numeric=False, bars=True),
        Column(heading="cycles"),
        Column(heading="share (%)"),
        Column(heading="bound by", numeric=False),
        Column(heading="above roofline (%)"),
        Column(heading="above full roofline (%)"),
        Column(heading="GEMM use (%)"),
        Column(heading="DRAM traffic (KiB)"),
        *([Column(heading="remark", numeric=False, wide=True)] if ahead else []),
    ]
    label = "Cycles of each layer, in execution order"
    return [Legend(entries), Table(label=label, columns=columns, rows=rows), *_bounds(layers)]


def _bounds(layers: Sequence[Timed]) -> list[Part]:
    """Say how much of the time each resource is waited for."""
    if not any(x.path for x in layers):
        return []
    total = sum(x.cycles for x in layers) or 1
    shares = {r: sum(x.path.get(r, 0) for x in layers) / total for r in RESOURCES}
    told = [
        f"{RESOURCES[r].split(':')[0]} {texts.percent(share, 1)}{texts.NO_BREAK}%"
        for r, share in sorted(shares.items(), key=lambda item: -item[1])
        if share >= 0.0005
    ]
    return [Lines([f"On the critical path of the whole program: {', '.join(told)}."])]


def _above(cycles: float, floor: float) -> str:
    return texts.percent(cycles / floor - 1, 1) if floor else texts.NONE


def _bar(layer: Timed, most: float) -> Markup:
    """Draw the cycles of a layer, by resource where that is known, and both rooflines."""
    width, height = _BAR
    axis = svg.Axis(low=0, high=most, start=0, end=width)
    parts, at = [], 0.0
    for resource, own in (layer.path or {layer.bound: layer.cycles}).items():
        if own > 0:
            start, end = axis.at(at), axis.at(at + own)
            box = {"x": start, "y": 3.0, "width": end - start, "height": height - 6}
            known = f"r-{resource}" if resource in RESOURCES else "r-sync"
            parts.append(svg.element("rect", class_=known, **box))
            at += own
    for class_, floor in (("full", layer.full_floor), ("floor", layer.floor)):
        x = axis.at(floor)
        parts.append(svg.line(x, 0, x, height, class_))
    told = ", ".join(f"{r} {n:,.0f}" for r, n in layer.path.items() if n)
    label = f"{layer.cycles:,.0f} cycles" + (f": {told}" if told else "")
    label += f"; roofline {layer.floor:,.0f}, full roofline {layer.full_floor:,.0f}"
    return svg.element(
        "svg",
        svg.element("title", label),
        *parts,
        class_="bar",
        viewBox=f"0 0 {width:g} {height:g}",
        preserveAspectRatio="none",
        role="img",
        aria_label=label,
    )


def roofline(report: Values) -> list[Part]:
    """Return the throughput of each layer under the roofs of the GEMM unit and the bus.

    Raises
    ------
    Missing
        When nothing was timed or counted.
    """
    machine = VTAConfig.from_json(dict(report.part("machine").data))
    profile = report.part("latency").text("timing_profile")
    if profile not in PROFILES:
        raise Missing(f"timing profile {profile}")
    macs = machine.batch * machine.block**2
    peak = macs / PROFILES[profile].gemm_step
    layers = [x for x in timed_layers(report) if x.steps and x.cycles and x.read is not None]
    if not layers:
        raise Missing("counters.layers[].gemm_conv_ops")
    points = [
        (x.steps * macs / max(x.read, 1), x.steps * macs / x.cycles)
        for x in layers
        if x.steps is not None and x.read is not None
    ]
    drawn = [_roofline(layers, points, peak, machine.bus_bytes, size) for size in (_WIDE, NARROW)]
    used = [r for r in RESOURCES if any(x.bound == r for x in layers)]
    entries = [Entry(colour=f"r-{r}", text=f"bound by {RESOURCES[r]}") for r in used]
    parts: list[Part] = [Legend(entries), Charts([Chart(wide=drawn[0], narrow=drawn[1])])]
    above = [str(x.number) for x in layers if x.ahead]
    if above:
        verb = "lies" if len(above) == 1 else "lie"
        several = "Layer" if len(above) == 1 else "Layers"
        parts.append(
            Lines(
                [
                    f"{several} {', '.join(above)} {verb} above the roof: the operands were loaded "
                    "during the layer before, in whose cycles that time is counted."
                ]
            )
        )
    return parts


def _roofline(
    layers: Sequence[Timed],
    points: Sequence[tuple[float, float]],
    peak: float,
    bus_bytes: int,
    size: tuple[float, float],
) -> Markup:
    width, height = size
    left, right, top, bottom = 46.0, width - 12, 60.0, height - 42
    ridge = peak / bus_bytes
    low = min([u for u, _ in points] + [ridge]) / 1.5
    high = max([u for u, _ in points] + [ridge]) * 1.5
    x = svg.Axis(low=low, high=high, start=left, end=right, logarithmic=True)
    bounds = min([v for _, v in points] + [peak / 2]) / 1.5, max([v for _, v in points] + [peak])
    y = svg.Axis(low=bounds[0], high=1.3 * bounds[1], start=bottom, end=top, logarithmic=True)
    parts: list[Any] = [svg.text(0, 14, "throughput (MACs per cycle)", "axis-name")]
    for tick in y.ticks(8):
        at = y.at(tick)
        parts.append(svg.line(left, at, right, at, "grid"))
        parts.append(svg.text(left - 6, at + 4, svg.tick_text(tick), "tick", "end"))
    for tick in x.ticks(9 if width > 500 else 5):
        at = x.at(tick)
        parts.append(svg.line(at, top, at, bottom, "grid"))
        parts.append(svg.text(at, bottom + 17, svg.tick_text(tick), "tick", "middle"))
    name = "arithmetic intensity (MACs per byte read)"
    parts.append(svg.text(right, bottom + 35, name, "axis-name", "end"))
    start = max(low, bounds[0] / bus_bytes)  # where the slope enters from below
    roof = [(x.at(start), y.at(start * bus_bytes)), (x.at(ridge), y.at(peak)), (right, y.at(peak))]
    parts.append(svg.path(roof, "roof"))
    told = f"rising: roof of the bus, {bus_bytes} bytes per cycle"
    parts.append(svg.text(0, top - 28, told, "note"))
    told = f"level: roof of the GEMM unit, {peak:g} MACs per cycle"
    parts.append(svg.text(0, top - 13, told, "note"))
    drawn = [(x.at(u), y.at(v)) for u, v in points]
    order = sorted(range(len(layers)), key=lambda k: -layers[k].cycles)[:_NUMBERED]
    numbers = [str(layers[k].number) for k in order]
    widths = [svg.LETTER * 11 * len(n) for n in numbers]
    found = svg.places([drawn[k] for k in order], widths, (left, top, right, bottom), height=11)
    for layer, (u, v), (intensity, throughput) in zip(layers, drawn, points, strict=True):
        told = (
            f"{layer.number}. {layer.name}: {throughput:.1f} MACs per cycle at "
            f"{intensity:.1f} MACs per byte, bound by {layer.bound}"
        )
        known = f"r-{layer.bound}" if layer.bound in RESOURCES else "r-sync"
        dot = svg.element("circle", svg.element("title", told), cx=u, cy=v, r=4.5, class_=known)
        parts.append(dot)
    for number, place in zip(numbers, found, strict=True):
        if place is not None:
            parts.append(svg.text(place[0], place[1] + 4, number, "number"))
    label = (
        f"Roofline: {len(layers)} layers, GEMM roof {peak:g} MACs per cycle, bus roof "
        f"{bus_bytes} bytes per cycle; the table of layers has the numbers"
    )
    return svg.picture(width, height, label, *parts, class_="roofline")
