"""Pictures of a timed program: a roofline and a bar a layer. Needs the extra ``plot``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flow.sim.timing_report import RESOURCES
from vta_config.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flow.sim.timing_report import TimingResult
    from vta_config.hardware import VTAConfig

_COLOURS: Final = dict(
    zip(RESOURCES, ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#999999"), strict=True)
)
FORMATS: Final = ("png", "svg")


def _figure(width: float, height: float) -> tuple[Any, Any]:
    """Return a figure and its axes, without a window system."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("plots", "must have matplotlib", hint="install vta-flow[plot]") from None
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _save(figure: Any, stem: Path, formats: Sequence[str]) -> list[Path]:
    paths = [stem.with_name(f"{stem.name}.{suffix}") for suffix in formats]
    for path in paths:
        figure.savefig(path, dpi=150)
    return paths


def plot_roofline(
    result: TimingResult, config: VTAConfig, stem: Path, formats: Sequence[str] = FORMATS
) -> list[Path]:
    """Draw multiply-accumulates a cycle over multiply-accumulates a byte, a point a layer.

    The roofs are the GEMM unit (batch · block² a cycle) and the bus (its bytes a cycle times the
    intensity); layers without multiplications are left out.

    Returns
    -------
    list of Path
        ``stem.png`` and ``stem.svg``, or those of `formats`.

    Raises
    ------
    ConfigError
        When matplotlib is not there.
    """
    figure, axes = _figure(8, 5)
    peak = config.batch * config.block**2
    points = [
        (
            layer.gemm_steps * peak / max(layer.bytes_moved, 1),
            layer.gemm_steps * peak / layer.cycles,
            layer,
        )
        for layer in result.layers
        if layer.gemm_steps and layer.cycles
    ]
    low = min((x for x, _, _ in points), default=1.0) / 2
    high = max(*(x for x, _, _ in points), peak / config.bus_bytes, 2 * low) * 2
    ridge = peak / config.bus_bytes
    axes.loglog(
        [low, ridge, high], [min(low * config.bus_bytes, peak), peak, peak], color="black", lw=1
    )
    for resource in RESOURCES:
        some = [(x, y) for x, y, layer in points if layer.bound == resource]
        if some:
            axes.scatter(*zip(*some, strict=True), color=_COLOURS[resource], label=resource, s=25)
    # Points lie close together: numbers beside them, names beside the picture.
    for k, (x, y, _) in enumerate(points):
        axes.annotate(k, (x, y), fontsize=6, xytext=(3, -7), textcoords="offset points")
    names = "\n".join(f"{k:2} {layer.name}" for k, (_, _, layer) in enumerate(points))
    axes.text(1.02, 1.0, names, transform=axes.transAxes, va="top", fontsize=7, family="monospace")
    axes.set_xlabel("multiply-accumulates per byte of DRAM traffic")
    axes.set_ylabel("multiply-accumulates per cycle")
    axes.set_title(f"{config.name}, {result.profile}: {result.cycles:,} cycles")
    if points:
        axes.legend(title="bound by", fontsize=8)
    axes.grid(which="both", alpha=0.2)
    return _save(figure, stem, formats)


def plot_layers(result: TimingResult, stem: Path, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Draw a bar a layer: its cycles by the resource on the critical path, its utilization.

    Returns and raises as `plot_roofline`.
    """
    figure, axes = _figure(9, 1.2 + 0.27 * len(result.layers))
    names = [layer.name for layer in result.layers]
    left = [0.0] * len(names)
    for resource in RESOURCES:
        width = [layer.path[resource] / 1e3 for layer in result.layers]
        if not any(width):
            continue
        axes.barh(names, width, left=left, color=_COLOURS[resource], label=resource, height=0.7)
        left = [a + b for a, b in zip(left, width, strict=True)]
    for k, layer in enumerate(result.layers):
        axes.text(left[k], k, f" {layer.utilization:.1%}", va="center", fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("thousand cycles; GEMM utilization")
    axes.set_title(f"{result.profile}: {result.cycles:,} cycles, {result.milliseconds:.2f} ms")
    axes.legend(fontsize=8)
    axes.margins(y=0.01)
    axes.set_xlim(0, 1.12 * max(*left, 1.0))
    return _save(figure, stem, formats)
