"""The Pareto front of mixed precision: a network for each of n limits, and the uniform ones.

Each is quantized with learned rounding, compiled, run and timed as a variant is. What is done is
written after each, so that a sweep that was stopped goes on where it was.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

from flow.backend import PipelineBackend
from flow.bit_request import Bound, Cost
from flow.bits.kept import key_of
from flow.bits.latencies import widths_of
from flow.bits.plots import BITS_STEM, PARETO_STEM, PlotPoint, plot_bits, plot_pareto
from flow.results.evaluate import Logits, Metrics, measure
from flow.results.fitted_table import FittedTable
from flow.results.latency import can_plot, latency_of
from flow.results.metric_cells import percent_cell, sqnr_cells
from flow.sent_model import model_logits
from flow.session import Session, calibrate, float_logits, open_session
from flow.system.files import write_atomic
from relay_passes.selection.bit_program import Bits, shown
from relay_passes.variants import MIXED, RECIPES
from vta_config.errors import FlowError, LimitError
from vta_config.files import read_bounded

if TYPE_CHECKING:
    from flow.bits.choose import BitChooser
    from flow.options import Options
    from flow.results.bit_choice import BitChoice
    from flow.stages import Stages

SWEEP_FILE: Final = "sweep.json"
#: Raised when a field of the file changes its meaning.
SCHEMA_VERSION: Final = 1
MAX_BYTES: Final = 1 << 26


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A network to measure.

    Parameters
    ----------
    label : str
    uniform : bool
        Whether all layers that have a choice have the same bits.
    share : float, optional
        Of the limit it was chosen within.
    choice : BitChoice, optional
        Why these bits; None of uniform ones.
    bits : mapping of str to (weight bits, activation bits)
        By layer.
    size_bytes, bops : float
        Of its weights; its bit operations.
    predicted_cycles : int
        The sum of its layers.
    """

    label: str
    uniform: bool
    share: float | None
    choice: BitChoice | None
    bits: Mapping[str, Bits]
    size_bytes: float
    bops: float
    predicted_cycles: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A network that was measured.

    Parameters
    ----------
    candidate : Candidate
    metrics : Metrics
    cycles : int, optional
        Of its program; None where the machine runs nothing.
    ms : float, optional
    """

    candidate: Candidate
    metrics: Metrics
    cycles: int | None
    ms: float | None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        c = self.candidate
        return {
            "label": c.label,
            "uniform": c.uniform,
            "share": c.share,
            "size_bytes": c.size_bytes,
            "bops": c.bops,
            "predicted_cycles": c.predicted_cycles,
            "cycles": self.cycles,
            "ms": self.ms,
            "metrics": asdict(self.metrics),
            "bits": {name: list(bits) for name, bits in c.bits.items()},
            "choice": None if c.choice is None else c.choice.to_json(),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """What a sweep found.

    Parameters
    ----------
    model, machine : str
        Names.
    cost : {"latency", "size", "bops"}
        What was limited.
    reference : Metrics
        Of float32.
    points : tuple of Point
        Uniform ones first, then by share.
    remarks : tuple of str
        Sentences for people.
    """

    model: str
    machine: str
    cost: Cost
    reference: Metrics
    points: tuple[Point, ...]
    remarks: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "machine": self.machine,
            "cost": self.cost,
            "float32": asdict(self.reference),
            "points": [point.to_json() for point in self.points],
            "remarks": list(self.remarks),
        }


def sweep(
    options: Options, stages: Stages, *, cost: Cost | None = None, count: int, folder: Path
) -> Sweep:
    """Measure `count` limits of one cost, evenly from narrowest to widest, and uniform bits.

    Parameters
    ----------
    options : Options
        Its limits of other costs hold for all points.
    stages : Stages
        Measures and shows.
    cost : {"latency", "size", "bops"}, optional
        By default what the machine gains by: see `BitChooser.usual_bounds`.
    count : int
        At least 2.
    folder : Path
        Where ``sweep.json`` is written after each point; points of it that are of the same model,
        images, machine and bits are not measured again.

    Raises
    ------
    LimitError
        When the cost that is swept has a limit, or no choice keeps the others.
    FlowError
        When the input cannot be used.
    """
    if count < 2:
        raise LimitError("--points", "must be 2 or more", got=count, hint="give --points 5")
    options = replace(options, variants=(MIXED,))
    session = open_session(options, stages)
    data, backend = session.evaluation, session.backend
    assert data is not None and isinstance(backend, PipelineBackend)
    reference = float_logits(session, stages)
    calibrate(session, stages)
    with stages("sensitivity", "measuring layers") as progress:
        chooser = backend.bit_chooser(progress)
    swept: Cost = cost or chooser.usual_bounds[0].cost
    with stages("choose", "choosing bits"):
        candidates = _candidates(chooser, options, swept, count)
    known = _Known(folder, session, options)
    result = Sweep(
        model=session.model.name,
        machine=session.machine.name,
        cost=swept,
        reference=measure("float32", reference, reference, data.targets, session.model.outputs),
        points=(),
        remarks=tuple(
            dict.fromkeys(s for c in candidates if c.choice is not None for s in c.choice.remarks)
        ),
    )
    for candidate in candidates:
        try:
            point = known.get(candidate) or _measure(candidate, session, stages, reference)
        except FlowError as error:  # of one network; others may fit
            result = replace(
                result, remarks=(*result.remarks, f"left out {candidate.label}: {error}")
            )
            continue
        known.add(point)
        result = replace(result, points=(*result.points, point))
        known.write(result)
    if not result.points:
        raise LimitError(
            "sweep-bits",
            "must have a network that can be measured",
            got=result.remarks[-1],
            hint="choose from other bits",
        )
    return result


def _candidates(
    chooser: BitChooser, options: Options, cost: Cost, count: int
) -> tuple[Candidate, ...]:
    """Return the uniform networks and those of each limit, each network once."""
    given = options.bits.limits
    if any(bound.cost == cost for bound in given):
        raise LimitError(
            f"--max-{cost}",
            "must not be given where it is swept",
            got=next(str(b) for b in given if b.cost == cost),
            hint=f"leave it out, or sweep another with --along, as in --along "
            f"{'size' if cost != 'size' else 'latency'}",
        )
    found = [
        _candidate(chooser, f"uniform {shown(pair)}", chooser.nearest(pair), uniform=True)
        for pair in chooser.free_choices
    ]
    for k in range(count):
        share = k / (count - 1)
        choice = chooser.choose((*given, Bound(cost=cost, value=share)))
        found.append(_candidate(chooser, f"{share:g}", choice.bits, share=share, choice=choice))
    return tuple(found)


def _candidate(
    chooser: BitChooser,
    label: str,
    bits: Mapping[str, Bits],
    *,
    uniform: bool = False,
    share: float | None = None,
    choice: BitChoice | None = None,
) -> Candidate:
    costs = chooser.costs(bits) if choice is None else choice.costs
    return Candidate(
        label=label,
        uniform=uniform,
        share=share,
        choice=choice,
        bits=bits,
        size_bytes=costs["size"],
        bops=costs["bops"],
        predicted_cycles=round(costs["latency"]),
    )


def _measure(candidate: Candidate, session: Session, stages: Stages, reference: Logits) -> Point:
    """Quantize, compile, run and time one network."""
    backend, data, name = session.backend, session.evaluation, candidate.label
    assert data is not None and isinstance(backend, PipelineBackend)
    pipeline = backend.pipeline
    widths = widths_of(backend.bit_chooser().layers, candidate.bits)
    with stages("quantize", f"quantizing {name}"):
        quantized = pipeline.quantize(RECIPES[MIXED].options.with_widths(widths))
    with stages("compile", f"compiling {name}"):
        compiled = pipeline.compile(quantized)
    with stages("time", f"timing {name}"):
        latency = latency_of(compiled.timed)
    with stages("fsim", f"running {name} on fsim") as progress:
        logits = model_logits(
            compiled, data, session.model.values, session.workers, progress=progress
        )
    return Point(
        candidate=candidate,
        metrics=measure(name, logits, reference, data.targets, session.model.outputs),
        cycles=None if latency is None else latency.cycles,
        ms=None if latency is None else latency.ms,
    )


class _Known:
    """Points measured before, by what they depend on; kept beside the sweep in its file."""

    def __init__(self, folder: Path, session: Session, options: Options) -> None:
        backend, data = session.backend, session.evaluation
        assert isinstance(backend, PipelineBackend) and data is not None
        self._path = folder / SWEEP_FILE
        self._key = key_of(
            backend.pipeline, "sweep", backend.pipeline.scheduling, data.name, len(data),
            options.seed, str(options.images),
        )  # fmt: skip
        self._hz = session.machine.clock_hz
        self._entries: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
            kept = json.loads(read_bounded(self._path, MAX_BYTES).decode("utf-8"))["measured"]
            if kept["key"] == self._key:
                self._entries = dict(kept["points"])

    def get(self, candidate: Candidate) -> Point | None:
        """Return what was measured of these bits; None where nothing was, or it cannot be read."""
        entry = self._entries.get(_name(candidate.bits))
        if entry is None:
            return None
        try:
            cycles = None if entry["cycles"] is None else int(entry["cycles"])
            metrics = replace(Metrics.from_json(entry["metrics"]), name=candidate.label)
        except (TypeError, KeyError, ValueError):
            return None
        ms = None if cycles is None else 1e3 * cycles / self._hz
        return Point(candidate=candidate, metrics=metrics, cycles=cycles, ms=ms)

    def add(self, point: Point) -> None:
        self._entries[_name(point.candidate.bits)] = {
            "cycles": point.cycles, "metrics": asdict(point.metrics),
        }  # fmt: skip

    def write(self, found: Sweep) -> Path:
        """Write the sweep so far."""
        value = found.to_json() | {"measured": {"key": self._key, "points": self._entries}}
        text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
        return write_atomic(self._path, text.encode(errors="backslashreplace"))


def _name(bits: Mapping[str, Bits]) -> str:
    return " ".join(f"{name}={w},{a}" for name, (w, a) in bits.items())


# ---- what the user sees --------------------------------------------------------------------------
def sweep_table(found: Sweep) -> Table:
    """Lay the points out: limits, what they cost, and what they reach."""
    table = FittedTable()
    table.add(f"{found.cost} limit", is_number=False)
    for heading, rank in (
        ("weights\n(MB)", 0),
        ("bit operations\n(G)", 4),
        ("latency\n(cycles)", 0),
        ("predicted\n(cycles)", 3),
        ("latency\n(ms)", 2),
        ("top-1\n(%)", 0),
        ("agreement\nwith float32\n(%)", 2),
        ("SQNR\n(dB)", 1),
        ("centred\nSQNR (dB)", 0),
    ):
        table.add(heading, rank=rank)
    top1 = found.reference.top1
    table.add_row("float32", *[""] * 5, percent_cell(top1), *[""] * 3)
    for point in found.points:
        c, m = point.candidate, point.metrics
        table.add_row(
            Text(c.label),
            f"{c.size_bytes / 1e6:.3f}",
            f"{c.bops / 1e9:.4g}",
            "–" if point.cycles is None else f"{point.cycles:,}",
            f"{c.predicted_cycles:,}",
            "–" if point.ms is None else f"{point.ms:.2f}",
            percent_cell(m.top1),
            percent_cell(m.agreement),
            *sqnr_cells(m),
        )
    return table


def draw(found: Sweep, folder: Path) -> tuple[Path, ...]:
    """Write the pictures, where matplotlib is installed; return the files.

    Raises
    ------
    ArtifactError
        When a file cannot be written.
    """
    if not can_plot():
        return ()
    points = _plotted(found.points)
    title = f"{found.model} on {found.machine}"
    reference = {} if found.reference.top1 is None else {"top-1, %": 100 * found.reference.top1}
    return (
        *plot_pareto(points, title, folder / PARETO_STEM, reference),
        *plot_bits(points, title, folder / BITS_STEM),
    )


def _plotted(points: Sequence[Point]) -> list[PlotPoint]:
    result = []
    for point in points:
        c, m = point.candidate, point.metrics
        shares: dict[str, float] = {}
        if m.agreement is not None:  # a classifier
            share = m.agreement if m.top1 is None else m.top1
            shares["agreement, %" if m.top1 is None else "top-1, %"] = 100 * share
        if all(p.metrics.sqnr_db is not None for p in points):
            assert m.sqnr_db is not None
            shares["SQNR of the results, dB"] = m.sqnr_db
        result.append(
            PlotPoint(
                label=c.label,
                uniform=c.uniform,
                ms=point.ms,
                megabytes=c.size_bytes / 1e6,
                shares=shares,
                bits=c.bits,
            )
        )
    return result
