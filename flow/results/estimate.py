"""What a network costs on a machine, as ``vta-flow estimate`` shows it: table, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flow.results.fitted_table import FittedTable
from flow.results.labelled_lines import LabelledLines
from flow.results.latency import Latency
from flow.results.placement import Placement, around_lines, labels_of, only_ends
from flow.results.report import name_cell
from flow.sim.scratchpads import SCRATCHPADS
from flow.system.files import write_atomic
from vta_config.text import printable, shown_name

if TYPE_CHECKING:
    from relay_passes.partition.host_work import Fallback
    from vta_config.hardware import VTAConfig

#: Raised when a field changes its meaning or goes away; new fields do not raise it.
SCHEMA_VERSION: Final = 1
JSON_FILE, CSV_FILE = "estimate.json", "estimate.csv"
#: Columns of the labels of lines.
_LABEL_COLUMNS: Final = 13
#: Layers that the table lists.
MOST_EXPENSIVE: Final = 10
#: The columns of the CSV; the last row is the total.
COLUMNS: Final = (
    "layer",
    "kind",
    "program",
    "cycles",
    "share_of_cycles",
    "gemm_steps",
    "gemm_utilization",
    "bound",
    "roofline_cycles",
    "inp_bytes",
    "wgt_bytes",
    "acc_bytes",
    "uop_bytes",
    "out_bytes",
    "insns",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramCost:
    """What one VTA program takes.

    Parameters
    ----------
    symbol : str
    cycles : int
    layers : tuple of str
        Names of its layers, and the kind of each in `kinds`.
    kinds : tuple of str
    input_bytes, output_bytes : int
        Copied from and to the host for one image.
    arena_bytes : int
        DRAM that it needs: constants and all tensors.
    """

    symbol: str
    cycles: int
    layers: tuple[str, ...]
    kinds: tuple[str, ...]
    input_bytes: int
    output_bytes: int
    arena_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a network costs on a machine.

    Parameters
    ----------
    model_name, model_sha256 : str
    input_shape : tuple of int
        Of an image; where there are several inputs, of a row with all their numbers.
    machine : VTAConfig
    variant : str
    data : str
        What it was calibrated on.
    latency : Latency, optional
        None when nothing runs on VTA.
    placement : Placement
    programs : tuple of ProgramCost
    scratchpad_bytes, scratchpad_capacity : mapping
        The most bytes that a layer touches, and those that there are, by `SCRATCHPADS`.
    constant_bytes : int
        Constants of all programs: weights, biases, micro-ops.
    seconds : float
        What the estimate took.
    inputs : mapping of str to tuple of int
        Shapes of the model's inputs, by name.
    """

    model_name: str
    model_sha256: str
    input_shape: tuple[int, ...]
    machine: VTAConfig
    variant: str
    data: str
    latency: Latency | None
    placement: Placement
    programs: tuple[ProgramCost, ...]
    scratchpad_bytes: Mapping[str, int]
    scratchpad_capacity: Mapping[str, int]
    constant_bytes: int
    seconds: float
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def cycles(self) -> int:
        """Cycles of all programs for one image."""
        return 0 if self.latency is None else self.latency.cycles

    @property
    def frames_per_s(self) -> float | None:
        """Images per second if VTA alone worked, one after the other; None without a program."""
        return None if self.latency is None or not self.latency.ms else 1000 / self.latency.ms

    @property
    def utilization(self) -> float:
        """GEMM steps that multiply inputs by weights, as a share of the cycles."""
        steps = sum(layer.gemm_steps for layer in self.timings)
        return steps / self.cycles if self.cycles else 0.0

    @property
    def dram_bytes(self) -> int:
        """Bytes moved between DRAM and the scratchpads for one image."""
        return sum(layer.bytes_moved for layer in self.timings)

    @property
    def arena_bytes(self) -> int:
        """DRAM that all programs need: constants and tensors."""
        return sum(program.arena_bytes for program in self.programs)

    @property
    def round_trips(self) -> int:
        """How often the host works between two programs."""
        return max(len(self.programs) - 1, 0)

    @property
    def round_trip_bytes(self) -> int:
        """Bytes copied for them: all but the first program's inputs and the last one's outputs."""
        if not self.programs:
            return 0
        ends = self.programs[0].input_bytes + self.programs[-1].output_bytes
        return self.placement.crossing_bytes - ends

    @property
    def timings(self) -> tuple[Any, ...]:
        """The timing of each layer, in execution order."""
        return () if self.latency is None else self.latency.layers

    def rows(self) -> list[tuple[Any, ...]]:
        """Return what `COLUMNS` says of each layer, in execution order, then of all."""
        found: list[tuple[Any, ...]] = []
        places = {
            name: (program.symbol, kind)
            for program in self.programs
            for name, kind in zip(program.layers, program.kinds, strict=True)
        }
        for layer in self.timings:
            share = layer.cycles / self.cycles if self.cycles else 0.0
            moved = [getattr(layer, f"{m}_bytes") for m in ("inp", "wgt", "acc", "uop", "out")]
            symbol, kind = places.get(layer.name, ("", ""))
            use = round(layer.utilization, 6)
            row = (layer.name, kind, symbol, layer.cycles, round(share, 6), layer.gemm_steps, use)
            found.append((*row, layer.bound, layer.floor, *moved, layer.insns))
        totals = [sum(row[i] for row in found) for i in (5, 8, 9, 10, 11, 12, 13, 14)]
        end = ("total", "", "", self.cycles, 1.0 if found else 0.0, totals[0])
        return [*found, (*end, round(self.utilization, 6), "", *totals[1:])]

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as JSON values, keys in a fixed order."""
        placement = self.placement.to_json()
        return {
            "schema_version": SCHEMA_VERSION,
            "model": {
                "name": self.model_name,
                "sha256": self.model_sha256,
                "input_shape": list(self.input_shape),
                "inputs": [{"name": n, "shape": list(s)} for n, s in self.inputs.items()],
            },
            "machine": self.machine.to_json(),
            "variant": self.variant,
            "calibrated_on": self.data,
            "cycles": self.cycles,
            "ms": None if self.latency is None else round(self.latency.ms, 6),
            "frames_per_s": None if self.frames_per_s is None else round(self.frames_per_s, 3),
            "partial": bool(self.placement.fallbacks),
            "gemm_utilization": round(self.utilization, 6),
            "macs": placement["macs"],
            "vta_macs": placement["vta_macs"],
            "vta_mac_share": placement["vta_mac_share"],
            "dram_traffic_bytes": self.dram_bytes,
            "dram_arena_bytes": self.arena_bytes,
            "constant_bytes": self.constant_bytes,
            "scratchpads": {
                name: {
                    "peak_bytes": self.scratchpad_bytes[name],
                    "capacity_bytes": self.scratchpad_capacity[name],
                }
                for name in self.scratchpad_bytes
            },
            "programs": [asdict(program) for program in self.programs],
            "round_trips": self.round_trips,
            "round_trip_bytes": self.round_trip_bytes,
            "crossing_bytes": self.placement.crossing_bytes,
            "fallbacks": [
                {"reason": reason, "operators": [f.label for f in found]}
                for reason, found in self.by_reason().items()
            ],
            "before": [f.label for f in self.placement.before],
            "behind": [f.label for f in self.placement.behind],
            "layers": [dict(zip(COLUMNS, row, strict=True)) for row in self.rows()[:-1]],
            "seconds": round(self.seconds, 3),
        }

    def by_reason(self) -> dict[str, list[Fallback]]:
        """Group the operators on the host by why they are there, the largest group first."""
        groups = self.placement.by_reason()
        return dict(sorted(groups.items(), key=lambda item: -len(item[1])))


def csv_text(estimate: Estimate) -> str:
    """Return a line for each layer, in execution order, then the total."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(estimate.rows())
    return file.getvalue()


def json_text(estimate: Estimate) -> str:
    """Return the estimate as JSON."""
    return json.dumps(estimate.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_estimate(estimate: Estimate, directory: Path) -> tuple[Path, ...]:
    """Write ``estimate.json`` and ``estimate.csv``.

    Raises
    ------
    ArtifactError
        When the folder or a file cannot be written.
    """
    texts = {JSON_FILE: json_text(estimate), CSV_FILE: csv_text(estimate)}
    return tuple(
        write_atomic(directory / name, text.encode(errors="backslashreplace"))
        for name, text in texts.items()
    )


# ---- the table -----------------------------------------------------------------------------------
def render(estimate: Estimate) -> RenderableType:
    """Return what the command shows: totals, then the most expensive layers."""
    parts: list[RenderableType] = [LabelledLines(_lines(estimate), _LABEL_COLUMNS)]
    if estimate.timings:
        shown = min(MOST_EXPENSIVE, len(estimate.timings))
        title = f"the {shown} most expensive of {len(estimate.timings)} layers"
        parts += [Text(title), _expensive(estimate)]
    return Group(*parts)


def _lines(estimate: Estimate) -> list[str]:
    machine, placement = estimate.machine, estimate.placement
    inputs = "input " + "×".join(map(str, estimate.input_shape))
    if len(estimate.inputs) > 1:
        each = (f"{shown_name(n)} {'×'.join(map(str, s))}" for n, s in estimate.inputs.items())
        inputs = "inputs " + ", ".join(each)
    lines = [
        f"model        {printable(estimate.model_name)}  (sha256 {estimate.model_sha256[:12]}…), "
        f"{inputs}",
        f"machine      {printable(machine.name)}: {machine.batch}×{machine.block}×{machine.block}, "
        f"{machine.clock_hz / 1e6:g} MHz, {machine.bus_bits}-bit bus",
        f"variant      {estimate.variant}, calibrated on {estimate.data}",
    ]
    if estimate.latency is None:
        lines.append("latency      nothing runs on VTA")
    else:
        only = "operators on VTA only: " if placement.fallbacks else ""
        lines.append(
            f"latency      {only}{estimate.cycles:,} cycles, {estimate.latency.ms:.3f} ms, "
            f"{estimate.frames_per_s:,.1f} frames/s (timing profile "
            f"{estimate.latency.timing_profile})"
        )
    lines += [
        f"MACs on VTA  {placement.macs_text}",
        f"utilization  {estimate.utilization:.1%} of the cycles are GEMM steps on inputs and "
        "weights",
        f"DRAM         {estimate.dram_bytes:,} bytes moved per image; "
        f"{estimate.arena_bytes:,} bytes needed, {estimate.constant_bytes:,} of them constants",
        "scratchpads  "
        + ", ".join(
            f"{name} {estimate.scratchpad_bytes[name]:,} of {estimate.scratchpad_capacity[name]:,}"
            for name in SCRATCHPADS
        )
        + " bytes at most",
        f"programs     {len(estimate.programs):,}; {estimate.round_trips:,} round trips to the "
        f"host between them, {estimate.round_trip_bytes:,} bytes; "
        f"{placement.crossing_bytes:,} bytes copied in all",
    ]
    lines += [f"on host      {line}" for line in around_lines(placement)]
    count = len(placement.fallbacks)
    if not count:
        return [*lines, f"on host      {only_ends(placement)}"]
    lines.append(f"on host      {count:,} operators, not included in the latency:")
    for reason, found in estimate.by_reason().items():
        names = ", ".join(labels_of(found))
        lines.append(f"             {len(found):,} × {printable(reason)}: {names}")
    return lines


def _expensive(estimate: Estimate) -> Table:
    shown = sorted(estimate.rows()[:-1], key=lambda row: -row[3])[:MOST_EXPENSIVE]
    table = FittedTable()
    table.add("layer", is_number=False)
    table.add("kind", is_number=False, rank=4)
    for heading, rank in (
        ("cycles", 0),
        ("share\n(%)", 0),
        ("GEMM\nuse (%)", 1),
        ("roofline\n(cycles)", 2),
        ("DRAM traffic\n(bytes)", 3),
    ):
        table.add(heading, rank=rank)
    table.add("bound\nby", is_number=False)
    for row in shown:
        by_name = dict(zip(COLUMNS, row, strict=True))
        moved = sum(by_name[f"{m}_bytes"] for m in ("inp", "wgt", "acc", "uop", "out"))
        table.add_row(
            name_cell(by_name["layer"]),
            by_name["kind"],
            f"{by_name['cycles']:,}",
            f"{100 * by_name['share_of_cycles']:.1f}",
            f"{100 * by_name['gemm_utilization']:.1f}",
            f"{by_name['roofline_cycles']:,}",
            f"{moved:,}",
            by_name["bound"],
        )
    return table
