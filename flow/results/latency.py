"""How long a program takes on the machine, as reports say it, and the pictures beside a report.

The numbers are those of the cycle model (flow/sim/tsim.py), whatever engine ran the images:
programs are data independent, so that one timing holds for every image.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flow.sim.timing_report import LayerTiming, above

if TYPE_CHECKING:
    from flow.sim.tsim import TSim

#: What times programs.
TIMING_ENGINE: Final = "tsim"
TRACE_FILE: Final = "trace.json"
#: Stems of the pictures; each is there as PNG and SVG.
ROOFLINE_STEM: Final = "roofline"
LAYERS_STEM: Final = "layers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """The time that one image takes on the machine, without the host's part.

    Parameters
    ----------
    timing_profile : str
        Which generation of the hardware was timed.
    cycles : int
        From the launch until FINISH is done; of several programs the sum.
    ms : float
        The same in milliseconds at the machine's clock.
    layers : tuple of LayerTiming
        In execution order; their cycles sum to `cycles`.
    engine : str
        What timed it.
    """

    timing_profile: str
    cycles: int
    ms: float
    layers: tuple[LayerTiming, ...]
    engine: str = TIMING_ENGINE

    @property
    def floor_cycles(self) -> int:
        """What the layers' rooflines add up to."""
        return sum(layer.floor for layer in self.layers)

    @property
    def full_floor_cycles(self) -> int:
        """The same with every GEMM and ALU step."""
        return sum(layer.full_floor for layer in self.layers)

    def to_json(self) -> dict[str, Any]:
        """Return the latency as JSON values, keys in a fixed order."""
        return {
            "engine": self.engine,
            "timing_profile": self.timing_profile,
            "cycles": self.cycles,
            "ms": round(self.ms, 6),
            "floor_cycles": self.floor_cycles,
            "full_floor_cycles": self.full_floor_cycles,
            **_above_floors(self.cycles, self.floor_cycles, self.full_floor_cycles),
            "layers": [_layer_json(layer) for layer in self.layers],
        }


def _layer_json(layer: LayerTiming) -> dict[str, Any]:
    """Return what reports say of a layer as JSON values, keys in a fixed order."""
    return {
        "name": layer.name,
        "cycles": layer.cycles,
        "gemm_utilization": round(layer.utilization, 6),
        "bound": layer.bound,
        "path": dict(layer.path),
        "bytes": layer.bytes_moved,
        "floor_cycles": layer.floor,
        "full_floor_cycles": layer.full_floor,
        **_above_floors(layer.cycles, layer.floor, layer.full_floor),
    }


def _above_floors(cycles: int, floor: int, full_floor: int) -> dict[str, float | None]:
    """Return the shares by which cycles exceed the floors, null where a floor is 0."""
    shares = {"above_floor": above(cycles, floor), "above_full_floor": above(cycles, full_floor)}
    return {key: None if x is None else round(x, 6) for key, x in shares.items()}


def latency_of(timed: Sequence[TSim]) -> Latency | None:
    """Return the latency of programs that run one after the other, None when there is none."""
    results = [sim.result for sim in timed]
    if not results:
        return None
    return Latency(
        timing_profile=results[0].profile,
        cycles=sum(result.cycles for result in results),
        ms=sum(result.milliseconds for result in results),
        layers=tuple(layer for result in results for layer in result.layers),
    )


def can_plot() -> bool:
    """Tell whether matplotlib is installed (extra ``plot``)."""
    return importlib.util.find_spec("matplotlib") is not None


def write_pictures(timed: Sequence[TSim], directory: Path) -> tuple[Path, ...]:
    """Write a trace, and with matplotlib a roofline and a bar a layer, each file whole.

    Parameters
    ----------
    timed : sequence of TSim
        Programs in the order in which they run; of several each gets files with its symbol.
    directory : Path
        Where to; made if missing.

    Returns
    -------
    tuple of Path
        What was written: ``trace.json``, ``roofline.png``, ``roofline.svg``, ``layers.png``,
        ``layers.svg``.

    Raises
    ------
    ArtifactError
        When a file cannot be written.
    """
    from flow.sim.plots import plot_layers, plot_roofline
    from flow.sim.trace import write_trace

    written: list[Path] = []
    for sim in timed:
        prefix = f"{sim.program.symbol}." if len(timed) > 1 else ""
        write_trace(sim, directory / f"{prefix}{TRACE_FILE}")
        written.append(directory / f"{prefix}{TRACE_FILE}")
        if can_plot():
            roofline, layers = (
                directory / f"{prefix}{stem}" for stem in (ROOFLINE_STEM, LAYERS_STEM)
            )
            written += plot_roofline(sim.result, sim.program.config, roofline)
            written += plot_layers(sim.result, layers)
    return tuple(written)
