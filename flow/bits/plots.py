"""Pictures of a sweep: accuracy against latency and size, bits by layer. Needs ``plot``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flow.sim.plots import new_figure, save_figure
from relay_passes.selection.bit_program import Bits
from vta_config.text import printable

#: Stems of the pictures.
PARETO_STEM: Final = "pareto"
BITS_STEM: Final = "layer-bits"
_CHOSEN, _UNIFORM, _OTHER = "#0072b2", "#d55e00", "#999999"
_COLOURS: Final = {2: "#cc79a7", 3: "#d55e00", 4: "#e69f00", 5: "#f0e442", 6: "#009e73",
                   7: "#56b4e9", 8: "#0072b2"}  # fmt: skip
_NAME_CHARS: Final = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class PlotPoint:
    """A network in the pictures.

    Parameters
    ----------
    label : str
    uniform : bool
        Whether all layers that have a choice have the same bits.
    ms, megabytes : float, optional
        Of an image; of the weights.
    shares : mapping of str to float
        What is drawn upwards, by its name: accuracies in %, and dB. The same names in all points.
    bits : mapping of str to (weight bits, activation bits)
        By layer.
    """

    label: str
    uniform: bool
    ms: float | None
    megabytes: float
    shares: Mapping[str, float]
    bits: Mapping[str, Bits]


def plot_pareto(
    points: Sequence[PlotPoint],
    title: str,
    stem: Path,
    reference: Mapping[str, float] | None = None,
) -> list[Path]:
    """Draw what networks reach over their latency and over their size.

    Chosen ones are joined by a line, uniform ones stand alone; a dashed line is float32.

    Parameters
    ----------
    points : sequence of PlotPoint
    title : str
    stem : Path
        Of the files.
    reference : mapping of str to float, optional
        What float32 reaches.

    Returns
    -------
    list of Path
        ``stem.png`` and ``stem.svg``.

    Raises
    ------
    ConfigError
        When matplotlib is not there.
    """
    names = list(points[0].shares) if points else []
    figure, plots = new_figure(10, 3.2 * max(1, len(names)), max(1, len(names)), 2)
    grid = plots if len(names) > 1 else [plots]  # subplots makes a row of one row
    places: tuple[tuple[str, Callable[[PlotPoint], float | None]], ...] = (
        ("latency of an image, ms", lambda p: p.ms),
        ("weights, MB", lambda p: p.megabytes),
    )
    for row, name in zip(grid, names, strict=False):
        for axes, (label, place) in zip(row, places, strict=True):
            _draw(axes, [(x, p.shares[name], p) for p in points if (x := place(p)) is not None])
            if reference is not None and name in reference:
                axes.axhline(reference[name], color="black", lw=0.8, ls="--", label="float32")
            axes.set_xlabel(label)
            axes.set_ylabel(name)
            axes.grid(alpha=0.3)
            axes.margins(0.18)
            if "%" in name:
                axes.set_ylim(*ends_of_share(*axes.get_ylim()))
    if grid[0][0].get_legend_handles_labels()[0]:
        grid[0][0].legend(fontsize=8)
    figure.suptitle(printable(title), fontsize=10, parse_math=False)
    return save_figure(figure, stem)


def ends_of_share(low: float, high: float) -> tuple[float, float]:
    """Return the ends of an axis of a share in %, which ends where the share does."""
    return max(min(low, 99.0), 0.0), min(high, 100.0)


def _draw(axes: Any, found: Sequence[tuple[float, float, PlotPoint]]) -> None:
    chosen = sorted((x, y) for x, y, p in found if not p.uniform)
    if chosen:
        axes.plot(
            *zip(*chosen, strict=True),
            "o-",
            color=_CHOSEN,
            ms=5,
            lw=1,
            label="chosen",
            clip_on=False,
        )
    uniform = [(x, y) for x, y, p in found if p.uniform]
    if uniform:
        axes.scatter(
            *zip(*uniform, strict=True), marker="s", color=_UNIFORM, label="uniform", clip_on=False
        )
    for x, y, p in found:
        axes.annotate(
            printable(p.label, _NAME_CHARS),
            (x, y),
            (0, -12 if p.uniform else 6),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            parse_math=False,
        )


def plot_bits(points: Sequence[PlotPoint], title: str, stem: Path) -> list[Path]:
    """Draw the bits of each layer, a row for each network: weights over activations.

    Returns and raises as `plot_pareto`.
    """
    layers = list(points[0].bits) if points else []
    figure, axes = new_figure(2.5 + 0.36 * len(layers), 1.8 + 0.4 * len(points))
    for row, point in enumerate(points):
        for column, layer in enumerate(layers):
            bits = point.bits[layer]
            for half, value in enumerate(bits):
                axes.bar(
                    column, 0.42, 0.9, row - 0.44 + 0.44 * half, color=_COLOURS.get(value, _OTHER)
                )
    axes.set_yticks(
        range(len(points)), [printable(p.label, _NAME_CHARS) for p in points], parse_math=False
    )
    axes.set_xticks(
        range(len(layers)),
        [printable(layer, _NAME_CHARS) for layer in layers],
        rotation=90,
        fontsize=7,
        parse_math=False,
    )
    axes.set_xlim(-0.6, len(layers) - 0.4)
    axes.set_ylim(max(1, len(points)) - 0.5, -0.5)
    used = sorted({b for p in points for bits in p.bits.values() for b in bits})
    handles = [axes.bar(0, 0, 0, color=_COLOURS.get(b, _OTHER), label=f"{b} bits") for b in used]
    axes.legend(handles=handles, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    axes.set_title(
        f"{printable(title)}\nabove weights, below activations", fontsize=9, parse_math=False
    )
    return save_figure(figure, stem)
