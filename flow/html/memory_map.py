"""The memory: DRAM over the layers, and how full each layer makes the scratchpads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from flow.html import svg, texts
from flow.html.details import of_details
from flow.html.parts import Column, Drawing, Entry, Facts, Heading, Legend, Lines, Part, Table
from flow.html.values import Missing, Values
from vta_config.text import shown_name

#: Programs that get a map each; of more the largest ones.
_MAPS: Final = 4
#: Pixels: the frame on the left, a layer at least and at most, the map, a strip of a scratchpad.
_LEFT: Final = 64.0
_LEAST_LAYER: Final = 9.0
_MOST_LAYER: Final = 44.0
_USUAL_WIDTH: Final = 1080.0
_MAP: Final = 240.0
_STRIP: Final = 36.0
_COLOURS: Final = {"input": "m-input", "activation": "m-activation", "output": "m-output"}
_NAMES: Final = {
    "inp": "inp: activations",
    "wgt": "wgt: weights",
    "acc": "acc: accumulators",
    "uop": "uop: micro-ops",
}


def parts(report: Values) -> list[Part]:
    """Return a map for each program, and the sums.

    Raises
    ------
    Missing
        When the report does not hold the memory.
    """
    programs = of_details(report, "memory").parts("memory")
    if not programs:
        raise Missing("program for VTA")
    found: list[Part] = []
    shown = sorted(programs, key=lambda p: -p.number("total_bytes"))[:_MAPS]
    for program in programs:
        if program not in shown:
            continue
        if len(programs) > 1:
            found.append(Heading(f"Program {program.text('symbol')}"))
        found += _program(program)
    if len(programs) > len(shown):
        more = len(programs) - len(shown)
        found.append(Lines([f"{texts.plural(more, 'smaller program')} not shown."]))
    return found


def _program(program: Values) -> list[Part]:
    layers = [shown_name(name) for name in program.texts("layers")]
    facts: list[tuple[str, str | Markup]] = [
        ("DRAM", texts.size(program.number("total_bytes"))),
        ("activations, which share it", texts.size(program.number("activation_bytes"))),
        ("weights and other constants", texts.size(program.number("constant_bytes"))),
        ("instructions, besides", texts.size(program.number("insn_bytes"))),
    ]
    rows: list[Sequence[str | Markup]] = []
    pads = program.parts("scratchpads")
    for pad in pads:
        used, capacity = pad.numbers("layer_bytes"), pad.number("capacity_bytes")
        peak = max(used, default=0)
        at = used.index(peak) if used else -1
        rows.append(
            [
                _NAMES.get(pad.text("name"), pad.text("name")),
                texts.size(peak),
                texts.size(capacity),
                texts.percent(peak / capacity if capacity else None, 1),
                f"{at + 1}.{texts.NO_BREAK}{layers[at]}" if 0 <= at < len(layers) else texts.NONE,
            ]
        )
    columns = [
        Column(heading="scratchpad", numeric=False),
        Column(heading="most used"),
        Column(heading="capacity"),
        Column(heading="share (%)"),
        Column(heading="by layer", numeric=False),
    ]
    entries = [
        Entry(colour="m-input", text="input"),
        Entry(colour="m-activation", text="activation"),
        Entry(colour="m-output", text="output"),
        Entry(colour="m-pad", text="share of a scratchpad that the layer touches"),
    ]
    regions = program.parts("regions")
    most = max((r.number("address") + r.number("size_bytes") for r in regions), default=0)
    label = (
        f"Memory of {texts.plural(len(layers), 'layer')}: {texts.plural(len(regions), 'tensor')} "
        f"in {texts.size(most)} of DRAM, over the layers; below, the scratchpads"
    )
    return [
        Facts(facts),
        Table(label="Scratchpads", columns=columns, rows=rows),
        Legend(entries),
        Drawing(label=label, svg=_map(layers, regions, pads, most, label)),
    ]


def _map(
    layers: Sequence[str],
    regions: Sequence[Values],
    pads: Sequence[Values],
    most: float,
    label: str,
) -> Markup:
    steps = len(layers) + 2  # the inputs before, the outputs behind
    each = min(max((_USUAL_WIDTH - _LEFT) / steps, _LEAST_LAYER), _MOST_LAYER)
    right = _LEFT + steps * each
    x = svg.Axis(low=-1, high=steps - 1, start=_LEFT, end=right)
    top, bottom = 24.0, 24.0 + _MAP
    y = svg.Axis(low=0, high=most or 1, start=bottom, end=top)
    drawn: list[Markup] = [svg.text(0, 12, "address of activations in DRAM (KiB)", "axis-name")]
    kib = svg.Axis(low=0, high=(most or 1) / 1024, start=bottom, end=top)
    ticks = kib.ticks(5)
    for tick in ticks:
        drawn.append(svg.line(_LEFT, kib.at(tick), right, kib.at(tick), "grid"))
        told = svg.tick_text(tick, ticks)
        drawn.append(svg.text(_LEFT - 6, kib.at(tick) + 4, told, "tick", "end"))
    for region in regions:
        drawn.append(_region(region, layers, x, y))
    drawn += _numbers(len(layers), x, each, bottom)
    at = bottom + 40
    for pad in pads:
        drawn += _strip(pad, layers, x, at)
        at += _STRIP + 26
    end = max(right + 8, 330.0)
    return svg.picture(end, at, label, *drawn, class_="memory")


def _region(region: Values, layers: Sequence[str], x: svg.Axis, y: svg.Axis) -> Markup:
    first, last = region.number("first"), region.number("last")
    address, size = region.number("address"), region.number("size_bytes")
    left, right = x.at(first), x.at(max(first, last) + 1)
    low, high = y.at(address), y.at(address + size)
    name = shown_name(region.text("name"))

    def layer(k: float, otherwise: str) -> str:
        return f"layer {k + 1:g}" if 0 <= k < len(layers) else otherwise

    told = (
        f"{name}: {texts.size(size)} at {address:,.0f}, from {layer(first, 'the start')} to "
        f"{layer(last, 'the end')}"
    )
    kind = _COLOURS.get(region.text("kind"), "m-activation")
    box = {"x": left, "y": high, "width": max(right - left - 0.8, 0.8)}
    rect = svg.element("rect", class_=kind, **box, height=max(low - high - 0.4, 0.8))
    shown: list[Markup] = [svg.element("title", told), rect]
    room = int((right - left - 6) / (svg.LETTER * 11))
    if room >= 4 and low - high >= 13:
        told = svg.shortened(name, room)
        shown.append(svg.text(left + 3, (low + high) / 2 + 4, told, "within"))
    return svg.element("g", *shown)


def _numbers(count: int, x: svg.Axis, each: float, bottom: float) -> list[Markup]:
    """Write the numbers of the layers below the map."""
    every = next(n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10_000) if n * each >= 20)
    found = [svg.line(x.start, bottom, x.end, bottom, "axis")]
    for k in range(count):
        if k == 0 or (k + 1) % every == 0:
            found.append(svg.text(x.at(k + 0.5), bottom + 14, str(k + 1), "tick", "middle"))
    found.append(svg.text(x.start - 6, bottom + 14, "layer", "tick", "end"))
    return found


def _strip(pad: Values, layers: Sequence[str], x: svg.Axis, top: float) -> list[Markup]:
    """Draw how full a scratchpad is, layer by layer."""
    capacity, used = pad.number("capacity_bytes") or 1, pad.numbers("layer_bytes")
    bottom = top + _STRIP
    name = _NAMES.get(pad.text("name"), pad.text("name"))
    told = f"{name} (to {texts.size(capacity)})"
    found = [
        svg.text(x.start, top - 4, told, "note"),
        svg.text(x.start - 6, top + 8, "100 %", "tick", "end"),
        svg.line(x.start, top, x.end, top, "grid"),
        svg.line(x.start, bottom, x.end, bottom, "axis"),
    ]
    for k, n in enumerate(used[: len(layers)]):
        share = min(n / capacity, 1.0)
        title = f"{k + 1}. {layers[k]}: {texts.size(n)}, {texts.percent(share, 1)} %"
        box = {"x": x.at(k) + 0.5, "width": max(x.at(k + 1) - x.at(k) - 1, 0.5)}
        bar = {"y": bottom - share * _STRIP, "height": share * _STRIP}
        found.append(svg.element("rect", svg.element("title", title), class_="m-pad", **box, **bar))
    return found
