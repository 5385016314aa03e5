"""Plots of a timed program: a roofline, and a bar chart of layers. Needs the extra ``plot``."""

from __future__ import annotations

import io
import textwrap
import warnings
from math import cos, hypot, radians, sin
from typing import TYPE_CHECKING, Any, Final

from flow.sim.timing_report import RESOURCE_WORDS, RESOURCES, above_cell, percent_above
from flow.system.files import write_atomic
from vta_config.errors import ConfigError
from vta_config.text import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flow.sim.timing_report import LayerTiming, TimingResult
    from vta_config.hardware import VTAConfig

_COLOURS: Final = dict(
    zip(RESOURCES, ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#999999"), strict=True)
)
FORMATS: Final = ("png", "svg")
#: The most characters of a layer's name that a plot shows.
_NAME_CHARS: Final = 40


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Any, Any]:
    """Return a figure and its axes, without a window system.

    Raises
    ------
    ConfigError
        When matplotlib is not there.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("plots", "must have matplotlib", hint="install vta-flow[plot]") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def save_figure(figure: Any, stem: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write ``stem.png`` and ``stem.svg``, or those of `formats`, each whole; return them."""
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in formats]
    with warnings.catch_warnings():
        # A letter that the font does not have is drawn as a box; names may have any.
        warnings.filterwarnings("ignore", "Glyph ")
        for path, suffix in zip(paths, formats, strict=True):
            picture = io.BytesIO()
            figure.savefig(picture, format=suffix, dpi=150)
            write_atomic(path, picture.getvalue())
    return paths


def _shown(name: str) -> str:
    return printable(name, _NAME_CHARS)


def _groups(points: Sequence[tuple[float, float]], apart: float) -> list[list[int]]:
    """Join points, in the order in which they come, that are closer than `apart` to a first one."""
    groups: list[list[int]] = []
    for k, (x, y) in enumerate(points):
        near = (g for g in groups if hypot(points[g[0]][0] - x, points[g[0]][1] - y) < apart)
        group = next(near, None)
        if group is None:
            groups.append([k])
        else:
            group.append(k)
    return groups


def _place(
    points: Sequence[tuple[float, float]],
    texts: Sequence[str],
    size: float,
    boxes: Sequence[tuple[float, float, float, float]],
) -> list[tuple[float, float]]:
    """Find a place for a text near each point, below it where possible.

    Parameters
    ----------
    points : sequence of (x, y)
        In printer's points.
    texts : sequence of str
    size : float
        Of the font, in printer's points.
    boxes : sequence of (x, y, half width, half height)
        What must not be covered besides, in printer's points.

    Returns
    -------
    list of (x, y)
        Offsets of the texts' centres; no text covers another one or a point where that is possible.
    """
    taken = [(x, y, 3.0, 3.0) for x, y in points] + list(boxes)
    offsets = []
    for (x, y), text in zip(points, texts, strict=True):
        wide, high = 0.32 * size * len(text) + 1, 0.6 * size
        rings = (high + 3.5 + 0.7 * size * k for k in range(8))
        angles = (-90, -60, -120, -30, -150, 0, 180, 60, 120, 90)
        places = [
            ((r + (wide - high)) * cos(radians(a)), r * sin(radians(a)))
            for r in rings
            for a in angles
        ]
        free = (
            (dx, dy)
            for dx, dy in places
            if all(abs(x + dx - u) > wide + w or abs(y + dy - v) > high + h for u, v, w, h in taken)
        )
        dx, dy = next(free, places[0])
        taken.append((x + dx, y + dy, wide, high))
        offsets.append((dx, dy))
    return offsets


def plot_roofline(
    result: TimingResult, config: VTAConfig, stem: Path, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Draw MACs per cycle over MACs per byte read from DRAM, one point per layer.

    The roofs are the GEMM unit (batch · block² MACs per step) and the bus (bytes per cycle times
    intensity). Bytes written do not count, since reads and writes do not delay each other. Layers
    without multiplications have no point. A point above the roofs is a layer whose operands were
    loaded during the layer before it.

    Returns
    -------
    list of Path
        ``stem.png`` and ``stem.svg``, or those of `formats`.

    Raises
    ------
    ConfigError
        When matplotlib is not there.
    """
    figure, axes = new_figure(9, 5)
    macs = config.batch * config.block**2
    peak = macs / result.gemm_step_cycles
    layers = [layer for layer in result.layers if layer.gemm_steps and layer.cycles]
    points = [
        (x.gemm_steps * macs / max(x.bytes_read, 1), x.gemm_steps * macs / x.cycles) for x in layers
    ]
    ridge = peak / config.bus_bytes
    low = min([x for x, _ in points] + [ridge]) / 2
    high = max([x for x, _ in points] + [ridge]) * 2
    axes.loglog([low, ridge, high], [low * config.bus_bytes, peak, peak], color="black", lw=1)
    axes.set_xlim(low, high)
    axes.set_ylim(min([y for _, y in points] + [peak / 2]) / 2, 2 * peak)
    roofs = (
        (high, 12, f"GEMM: {peak:g} MACs per cycle"),
        (ridge, 23, f"bus: {config.bus_bytes} bytes per cycle"),
    )
    style = {"textcoords": "offset points", "ha": "right", "fontsize": 7}
    for x, up, text in roofs:  # one above the other: they may be close
        axes.annotate(text, (x, peak), (-5, up), **style)
    for resource in RESOURCES:
        some = [p for p, layer in zip(points, layers, strict=True) if layer.bound == resource]
        if some:
            label = RESOURCE_WORDS[resource]
            axes.scatter(*zip(*some, strict=True), color=_COLOURS[resource], s=25, label=label)
    names = [_shown(x.name) for x in layers]
    width = max(map(len, names), default=0)
    rows = [
        f"{k:2} {name:{width}} {above_cell(x.cycles, x.floor):>7}"
        for k, (name, x) in enumerate(zip(names, layers, strict=True))
    ]
    heading = "   layer, above roofline (%)"
    text = "\n".join([heading, *rows, *_ahead_lines(layers)])
    style = {"va": "top", "fontsize": 7, "family": "monospace", "parse_math": False}
    axes.text(1.02, 1.0, text, transform=axes.transAxes, **style)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.set_xlabel("arithmetic intensity (MACs per byte read from DRAM)")
    axes.set_ylabel("throughput (MACs per cycle)")
    title = f"{printable(config.name)}, {_headline(result)}"
    axes.set_title(title, fontsize=10, parse_math=False)
    if points:
        axes.legend(title="bound by", fontsize=8, loc="lower right")
    axes.grid(which="both", alpha=0.2)
    # Where the points are is known when the layout is. Points lie close together: numbers beside
    # them, one text for those that touch; names beside the image.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph ")
        figure.draw_without_rendering()
    to_points = 72 / figure.dpi

    def shown(x: float, y: float) -> tuple[float, float]:
        at_x, at_y = axes.transData.transform((x, y))
        return to_points * at_x, to_points * at_y

    at = [shown(*p) for p in points]
    groups = _groups(at, apart=4)
    texts = [", ".join(map(str, group)) for group in groups]
    steps = [low * (high / low) ** (k / 200) for k in range(201)]
    roof = [(*shown(x, min(x * config.bus_bytes, peak)), 1.0, 1.0) for x in steps]
    offsets = _place([at[group[0]] for group in groups], texts, 6, roof)
    for group, text, offset in zip(groups, texts, offsets, strict=True):
        axes.annotate(
            text,
            points[group[0]],
            offset,
            textcoords="offset points",
            fontsize=6,
            ha="center",
            va="center",
            arrowprops={"arrowstyle": "-", "lw": 0.3, "shrinkA": 0, "shrinkB": 2},
        )
    return save_figure(figure, stem, formats)


def _ahead_lines(layers: Sequence[LayerTiming]) -> list[str]:
    """Return why layers are above the roofs, where some are."""
    ahead = [str(k) for k, layer in enumerate(layers) if layer.ahead]
    if not ahead:
        return []
    said = f"{', '.join(ahead)}: faster than the roofline, since the layer before loaded ahead"
    return ["", *textwrap.wrap(said, 44)]


def above_text(layer: LayerTiming) -> str:
    """Return how far a layer is above its roofline, and of one below it why it can be."""
    above = f"{percent_above(layer.cycles, layer.floor)}"
    if layer.ahead:
        return f"{above.replace('-', '−')}:\nthe layer before loaded ahead"
    return above if not layer.floor else f"+{above}"


def _headline(result: TimingResult) -> str:
    """Return the timing profile, the latency and the percentages above the rooflines."""
    return (
        f"{result.profile}: {result.cycles:,} cycles, {result.milliseconds:.2f} ms; "
        f"{percent_above(result.cycles, result.floor)} above the rooflines, "
        f"{percent_above(result.cycles, result.full_floor)} above the full rooflines"
    )


def plot_layers(result: TimingResult, stem: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Draw one bar per layer: its cycles on the critical path by resource, and its roofline.

    A solid line across the bar is the roofline, a dotted line the full roofline. The numbers are
    the GEMM utilization and the percentage above the roofline.

    Returns and raises as `plot_roofline`.
    """
    count = len(result.layers)
    figure, axes = new_figure(9, 1.4 + 0.27 * count)
    places = range(count)  # names are no places: two may be shown alike
    left = [0.0] * count
    for resource in RESOURCES:
        width = [layer.path[resource] / 1e3 for layer in result.layers]
        if not any(width):
            continue
        # A resource too small to be seen gets no entry in the legend.
        label = RESOURCE_WORDS[resource] if 1e3 * sum(width) >= 1e-3 * result.cycles else None
        axes.barh(places, width, left=left, color=_COLOURS[resource], label=label, height=0.7)
        left = [a + b for a, b in zip(left, width, strict=True)]
    ends = left[:]
    low, high = [k - 0.42 for k in range(count)], [k + 0.42 for k in range(count)]
    full = [layer.full_floor for layer in result.layers]
    for label, style, floors in (
        ("roofline: products and reads alone", "solid", [layer.floor for layer in result.layers]),
        ("full roofline: all GEMM and ALU steps", "dotted", full),
    ):
        at = [floor / 1e3 for floor in floors]
        axes.vlines(at, low, high, color="black", lw=1, linestyle=style, label=label)
        ends = [max(a, b) for a, b in zip(ends, at, strict=True)]
    for k, layer in enumerate(result.layers):
        text = f"GEMM {layer.utilization:.1%}, {above_text(layer)}"
        beside = {"textcoords": "offset points", "va": "center", "fontsize": 7}
        axes.annotate(text, (ends[k], k), (5, 0), **beside)
    axes.set_yticks(places, [_shown(layer.name) for layer in result.layers], parse_math=False)
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel(
        "latency (thousand cycles), coloured by the resource on the critical path\n"
        "beside each bar: GEMM utilization, latency above the roofline"
    )
    axes.set_title(_headline(result), fontsize=10)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.margins(y=0.01)
    room = 1.45 if any(layer.ahead for layer in result.layers) else 1.3
    axes.set_xlim(0, room * max(*ends, 1.0))
    return save_figure(figure, stem, formats)
