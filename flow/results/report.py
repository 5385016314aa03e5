"""The result of a deployment: ``report.json`` (see docs/report.md) and the printed tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flow.results.bit_choice import BitChoice, choice_lines
from flow.results.bits_lines import bits_lines
from flow.results.data_facts import DataFacts, calibration_lines
from flow.results.details.types import Details
from flow.results.evaluate import Metrics
from flow.results.explanation import Explanation
from flow.results.fitted_table import FittedTable
from flow.results.kept_lines import kept_lines
from flow.results.labelled_lines import LabelledLines
from flow.results.latency import Latency
from flow.results.layer_facts import LAYERS_FILE, LayerFacts, layers_csv
from flow.results.metric_cells import outputs_table, percent_cell, sqnr_cells
from flow.results.placement import Placement, labels_of, listed, placement_lines
from flow.results.run_facts import RunFacts
from flow.sim.timing_report import above_cell, percent_above
from flow.system.files import write_atomic
from flow.system.json_values import json_value
from relay_passes.integers.plan import QuantPlan
from relay_passes.scales.kept import Deviation
from relay_passes.selection.choices import Choice
from vta_config.hardware import VTAConfig
from vta_config.text import printable, shown_name

#: Raised when a field changes its meaning or goes away; new fields do not raise it.
SCHEMA_VERSION: Final = 4
REPORT_FILE: Final = "report.json"
#: Columns of the labels of lines.
_LABEL_COLUMNS: Final = 11
#: Name and kind of the row for instructions that belong to no layer: constants and FINISH.
SETUP: Final = "setup"
#: GEMM steps by purpose; they sum to ``gemm_ops``.
GEMM_PARTS: Final = ("gemm_conv_ops", "gemm_bias_ops", "gemm_residual_ops", "gemm_pool_ops")
#: Counters of a layer, in the order of the report; GEMM steps are also split by purpose.
COUNTERS: Final = (
    "insns",
    "gemm_ops",
    *GEMM_PARTS,
    "alu_ops",
    "inp_bytes",
    "wgt_bytes",
    "acc_bytes",
    "uop_bytes",
    "out_bytes",
)

#: Headings of the counters in `layers_table`.
_COUNTER_HEADINGS: Final[Mapping[str, str]] = {
    "insns": "instruc-\ntions",
    "gemm_ops": "GEMM\nsteps",
    "alu_ops": "ALU\nsteps",
    "inp_bytes": "inp loaded\n(bytes)",
    "wgt_bytes": "wgt loaded\n(bytes)",
    "acc_bytes": "acc loaded\n(bytes)",
    "uop_bytes": "uop loaded\n(bytes)",
    "out_bytes": "out stored\n(bytes)",
}
#: Which of these are shown in a narrow terminal: those of the lowest rank.
_COUNTER_RANKS: Final[Mapping[str, int]] = {
    "gemm_ops": 1, "alu_ops": 1, "inp_bytes": 2, "wgt_bytes": 2, "out_bytes": 2,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Exactness:
    """The result of comparing the engines bit for bit.

    Parameters
    ----------
    images : int
        Number of images compared.
    tensors : int
        Number of tensors compared, over all images and engines.
    mismatches : int
        Number of tensors that differ.
    first : str
        The first tensor that differs, and on which engine; "" when there is none.
    """

    images: int
    tensors: int
    mismatches: int
    first: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCounters:
    """Counters of one layer for one image, by the names in `COUNTERS`."""

    name: str
    kind: str
    counters: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramFacts:
    """Facts about one compiled variant: its latency, its placement and its quantization plan.

    Parameters
    ----------
    variant : str
    latency : Latency, optional
        None when nothing runs on VTA.
    placement : Placement
    choice : Choice, optional
        The candidate configuration that was selected; None for a variant without calibration.
    requantization_error : float
        The largest relative error |used / exact - 1| of a requantization ratio; 0.0: all exact.
    plan : QuantPlan, optional
        The quantization plan; None for stock Relay's quantization.
    exact : Exactness, optional
        None when the engines were not compared.
    calibration : DataFacts, optional
        The images that it was calibrated on; None for a variant without calibration.
    bits : BitChoice, optional
        The bits of each layer, if they were chosen per layer.
    deviation : Deviation, optional
        How far it is from the integers of the file, if it keeps them.
    layers : tuple of LayerFacts
        Its layers on VTA, in execution order.
    layer_images : int
        Number of evaluation images on which the layers were compared with float32.
    """

    variant: str
    latency: Latency | None
    placement: Placement
    choice: Choice | None = None
    requantization_error: float = 0.0
    plan: QuantPlan | None = None
    exact: Exactness | None = None
    calibration: DataFacts | None = None
    bits: BitChoice | None = None
    deviation: Deviation | None = None
    layers: tuple[LayerFacts, ...] = ()
    layer_images: int = 0

    @property
    def partial(self) -> bool:
        """Whether the latency leaves operators out that the host runs."""
        return bool(self.placement.fallbacks)

    def latency_json(self) -> dict[str, Any] | None:
        """Return the latency as JSON values, and whether it is partial."""
        return None if self.latency is None else {"partial": self.partial} | self.latency.to_json()


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A variant that this model cannot have, and why."""

    variant: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The content of ``report.json``.

    Parameters
    ----------
    model_name, model_sha256 : str
        The model and the sha256 of its ``.onnx`` bytes.
    machine : VTAConfig
        The machine that the programs were compiled for.
    engine : str
        The engine that ran the programs.
    evaluation, calibration : DataFacts, optional
        The images.
    run : RunFacts
        Which run it is of.
    variants : tuple of Metrics
        One per variant, float32 first.
    deployed : str
        The variant whose program and latency are reported in full.
    layers : tuple of LayerCounters
        Of the deployed variant's program, in execution order.
    seconds : mapping
        Wall time by stage.
    programs : tuple of ProgramFacts
        One per compiled variant, in order.
    skipped : tuple of Skipped
        Variants that were not measured.
    stopped : str
        Why no further variant was tried; "" when all were.
    details : Details, optional
        What the page shows beside numbers.
    explanation : Explanation, optional
        What bounds the deployed variant, where that was asked for.
    """

    model_name: str
    model_sha256: str
    machine: VTAConfig
    engine: str
    evaluation: DataFacts | None = None
    calibration: DataFacts | None = None
    run: RunFacts = field(default_factory=RunFacts)
    variants: tuple[Metrics, ...] = ()
    deployed: str = ""
    layers: tuple[LayerCounters, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    programs: tuple[ProgramFacts, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    stopped: str = ""
    details: Details | None = None
    explanation: Explanation | None = None

    def facts(self, variant: str) -> ProgramFacts | None:
        """Return the facts about a variant's program; None when it has no program."""
        return next((p for p in self.programs if p.variant == variant), None)

    @property
    def latency(self) -> Latency | None:
        """Return the latency of the deployed variant."""
        facts = self.facts(self.deployed)
        return None if facts is None else facts.latency

    @property
    def placement(self) -> Placement | None:
        """Return which part of the deployed variant runs on VTA, and which on the host."""
        facts = self.facts(self.deployed)
        return None if facts is None else facts.placement

    @property
    def exact(self) -> Exactness | None:
        """Return the comparison of the engines for the deployed variant."""
        facts = self.facts(self.deployed)
        return None if facts is None else facts.exact

    @property
    def mismatches(self) -> int:
        """Count the tensors that differ between engines, in all variants."""
        return sum(p.exact.mismatches for p in self.programs if p.exact is not None)

    def totals(self) -> dict[str, int]:
        """Add the counters of all layers."""
        return {key: sum(layer.counters.get(key, 0) for layer in self.layers) for key in COUNTERS}

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values, keys in a fixed order."""
        return {
            "schema_version": SCHEMA_VERSION,
            **json_value(self.run),
            "model": {"name": self.model_name, "sha256": self.model_sha256},
            "machine": self.machine.to_json(),
            "engine": self.engine,
            "evaluation": None if self.evaluation is None else asdict(self.evaluation),
            "calibration": None if self.calibration is None else asdict(self.calibration),
            "variants": [self._variant_json(variant) for variant in self.variants],
            "skipped": [asdict(variant) for variant in self.skipped],
            "stopped": self.stopped or None,
            "deployed": self.deployed or None,
            "latency": None if (own := self.facts(self.deployed)) is None else own.latency_json(),
            "exact": None if self.exact is None else asdict(self.exact),
            "counters": {
                "total": self.totals(),
                "layers": [
                    {"name": layer.name, "kind": layer.kind}
                    | {key: int(layer.counters.get(key, 0)) for key in COUNTERS}
                    for layer in self.layers
                ],
            },
            "seconds": {stage: round(value, 3) for stage, value in self.seconds.items()},
            "placement": None if self.placement is None else self.placement.to_json(),
            "plan": None if own is None or own.plan is None else own.plan.to_json(),
            "details": None if self.details is None else self.details.to_json(),
            "explanation": None if self.explanation is None else self.explanation.to_json(),
        }

    def _variant_json(self, variant: Metrics) -> dict[str, Any]:
        """Return the measurements of a variant, and of its program if it has one."""
        facts = self.facts(variant.name)
        exact = None if facts is None else facts.exact
        own = None if facts is None else facts.calibration
        return _rounded(asdict(variant)) | {
            "latency": None if facts is None else facts.latency_json(),
            "placement": None if facts is None else facts.placement.to_json(),
            "steps": None if facts is None or facts.choice is None else facts.choice.to_json(),
            "requantization_error": None if facts is None else facts.requantization_error,
            "exact": None if exact is None else asdict(exact),
            "calibration": None if own is None else asdict(own),
            "bits": None if facts is None or facts.bits is None else facts.bits.to_json(),
            "kept": None if facts is None or facts.deviation is None else asdict(facts.deviation),
            "layer_images": 0 if facts is None else facts.layer_images,
            "layers": [] if facts is None else [asdict(layer) for layer in facts.layers],
        }


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Round floats to six decimals, far below what the number of images can tell."""
    rounded = {k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}
    if "outputs" in values:
        rounded["outputs"] = [
            _rounded(output) | {"shape": list(output["shape"])} for output in values["outputs"]
        ]
    return rounded


def write_report(report: Report, directory: Path) -> Path:
    """Write ``report.json`` and ``layers.csv`` into `directory` (made if missing).

    Returns
    -------
    Path
        Of ``report.json``.

    Raises
    ------
    ArtifactError
        When the folder or the file cannot be written.
    """
    table = layers_csv((p.variant, p.layers) for p in report.programs)
    write_atomic(directory / LAYERS_FILE, table.encode(errors="backslashreplace"))
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A name that is no UTF-8 becomes an escape of JSON.
    return write_atomic(directory / REPORT_FILE, text.encode(errors="backslashreplace"))


# ---- the table -----------------------------------------------------------------------------------
def _points(metrics: Metrics, reference: float | None) -> str:
    if metrics.top1 is None or reference is None:
        return "–"
    margin = metrics.top1_change_margin
    change = f"{100 * (metrics.top1 - reference):+.2f}"
    return change if margin is None else f"{change} ± {100 * margin:.2f}"


def variants_table(variants: tuple[Metrics, ...], programs: tuple[ProgramFacts, ...] = ()) -> Table:
    """Return one row per variant; an asterisk marks a latency without the operators on the host."""
    table = FittedTable()
    table.add("variant", is_number=False)
    for heading, rank in (
        ("images", 6),
        ("top-1\n(%)", 0),
        ("Δ top-1\n(points, 95 %\ninterval)", 3),
        ("top-5\n(%)", 5),
        ("agreement\nwith float32\n(%)", 1),
        ("SQNR\n(dB)", 4),
        ("centred\nSQNR (dB)", 0),
    ):
        table.add(heading, rank=rank)
    if programs:
        table.add("requantization\nerror (relative)", rank=7)
        table.add("latency\n(cycles)", rank=2)
        table.add("latency\n(ms)")
    facts = {p.variant: p for p in programs}
    reference = next((v.top1 for v in variants if v.name == "float32"), None)
    for v in variants:
        own = v.name == "float32"
        table.add_row(
            v.name,
            f"{v.images:,}",
            percent_cell(v.top1),
            "" if own else _points(v, reference),
            percent_cell(v.top5),
            "" if own else percent_cell(v.agreement),
            *(("", "") if own else sqnr_cells(v)),
            *(_program_cells(facts.get(v.name)) if programs else ()),
        )
    return table


def name_cell(name: str) -> Text:
    """Return a name as a table shows it: as it is, without markup."""
    return Text(shown_name(name))


def error_cell(error: float) -> str:
    """Return a relative requantization error as a table shows it."""
    return f"{error:.0e}" if error else "0"


def _program_cells(facts: ProgramFacts | None) -> tuple[str, str, str]:
    """Return requantization error, cycles and milliseconds of a variant."""
    if facts is None:
        return "", "", ""
    error = error_cell(facts.requantization_error)
    if facts.latency is None:
        return error, "–", "–"
    mark = "*" if facts.partial else ""
    return error, f"{facts.latency.cycles:,}{mark}", f"{facts.latency.ms:.2f}{mark}"


def layers_table(report: Report) -> Table:
    """Return the counters of every layer, and their sum as the last row."""
    table = FittedTable()
    table.add("layer", is_number=False)
    table.add("kind", is_number=False, rank=4)
    shown = [key for key in COUNTERS if key not in GEMM_PARTS]
    for key in shown:
        table.add(_COUNTER_HEADINGS[key], rank=_COUNTER_RANKS.get(key, 3))
    for layer in report.layers:
        values = (f"{layer.counters.get(key, 0):,}" for key in shown)
        table.add_row(name_cell(layer.name), layer.kind, *values)
    table.add_section()
    totals = report.totals()
    table.add_row("total", "", *(f"{totals[key]:,}" for key in shown))
    return table


def latency_table(report: Report) -> Table:
    """Return the latency of every layer, and the purposes of its GEMM steps."""
    table = FittedTable(padding=0)  # fits in 120 characters
    table.add("layer", is_number=False)
    for heading, rank in (
        ("latency\n(cycles)", 0),
        ("roofline\n(cycles)", 2),
        ("above\nroofline\n(%)", 0),
        ("above full\nroofline\n(%)", 3),
        ("GEMM\nuse (%)", 1),
        ("bound\nby", 0),
        ("DRAM\ntraffic\n(KiB)", 1),
    ):
        table.add(heading, rank=rank)
    for key in GEMM_PARTS:
        table.add(f"{key.split('_')[1]}\n(GEMM\nsteps)", rank=4)
    counters = {layer.name: layer.counters for layer in report.layers if layer.kind != SETUP}
    for layer in () if report.latency is None else report.latency.layers:
        own = counters.get(layer.name, {})
        table.add_row(
            name_cell(layer.name),
            f"{layer.cycles:,}",
            f"{layer.floor:,}",
            above_cell(layer.cycles, layer.floor),
            above_cell(layer.cycles, layer.full_floor),
            f"{100 * layer.utilization:.1f}",
            layer.bound,
            f"{layer.bytes_moved / 1024:,.0f}",
            *(f"{own.get(key, 0):,}" for key in GEMM_PARTS),
        )
    return table


def render(report: Report) -> RenderableType:
    """Return the table and the lines that are printed at the end of a deployment."""
    machine = report.machine
    lines = [
        f"model      {printable(report.model_name)}  (sha256 {report.model_sha256[:12]}…)",
        f"machine    {printable(machine.name)}: {machine.batch}×{machine.block}×{machine.block}, "
        f"{machine.clock_hz / 1e6:g} MHz, {machine.bus_bits}-bit bus; engine {report.engine}",
    ]
    if report.layers:
        total = report.totals()
        count = sum(layer.kind != SETUP for layer in report.layers)
        moved = sum(total[f"{memory}_bytes"] for memory in ("inp", "wgt", "acc", "uop", "out"))
        lines.append(
            f"program    {count} layers, {total['insns']:,} instructions; per image: "
            f"{total['gemm_ops']:,} GEMM steps, {total['alu_ops']:,} ALU steps, "
            f"{moved / 1e6:.2f} MB of DRAM traffic"
        )
    if report.latency is not None:
        lines.append("latency    " + _latency_line(report.latency, partial=_is_partial(report)))
    if report.placement is not None:
        lines += placement_lines(report.placement)
    lines += _partial_lines(report)
    lines += bits_lines((p.variant, p.plan) for p in report.programs)
    lines += calibration_lines((p.variant, p.calibration) for p in report.programs)
    lines += kept_lines((p.variant, p.deviation) for p in report.programs)
    lines += _step_lines(report)
    lines += choice_lines((p.variant, p.bits) for p in report.programs)
    lines += [f"skipped    {s.variant}: {s.reason}" for s in report.skipped]
    lines += _exact_lines(report)
    if report.seconds:
        stages = ", ".join(f"{stage} {value:.1f}" for stage, value in report.seconds.items())
        lines.append(f"time (s)   {stages}; total {sum(report.seconds.values()):.1f}")
    parts: list[RenderableType] = [LabelledLines(lines, _LABEL_COLUMNS)]
    if report.variants:
        outputs = outputs_table(report.variants)
        parts[:0] = [] if outputs is None else [outputs]
        parts.insert(0, variants_table(report.variants, report.programs))
    return Group(*parts)


def _partial_lines(report: Report) -> list[str]:
    """Return, for each variant that is not deployed, the operators its latency does not include."""
    return [
        f"           * {p.variant}: latency of the operators on VTA only; on host: "
        + listed([*dict.fromkeys(labels_of(p.placement.fallbacks))])  # a node may become several
        for p in report.programs
        if p.partial and p.variant != report.deployed
    ]


def _step_lines(report: Report) -> list[str]:
    """Return a line for each variant whose configuration or layers differ from its definition."""
    lines = []
    for facts in report.programs:
        if (choice := facts.choice) is None:
            continue
        dropped = []
        if choice.chosen != choice.variant:
            own, taken = (
                next(c for c in choice.candidates if c.name == name)
                for name in (choice.variant, choice.chosen)
            )
            dropped.append(
                f"replaced by {choice.chosen}, which has a centred SQNR of "
                f"{taken.centred_db:.1f} dB on calibration images "
                f"instead of {own.centred_db:.1f} dB"
            )
        nearest = [x.layer for x in choice.layers if x.rounding == "nearest"]
        biases = [x.layer for x in choice.layers if not x.correct_bias]
        for what, layers in (("rounded to nearest", nearest), ("no bias correction", biases)):
            if layers:
                dropped.append(f"{what} in {len(layers):,} layers: {listed(layers)}")
        lines += [f"{facts.variant}: {text}" for text in dropped]
    return [("selection  " if i == 0 else " " * 11) + line for i, line in enumerate(lines)]


def _is_partial(report: Report) -> bool:
    return report.placement is not None and bool(report.placement.fallbacks)


def _latency_line(latency: Latency, *, partial: bool) -> str:
    return (
        f"{'operators on VTA only: ' if partial else ''}"
        f"{latency.cycles:,} cycles, {latency.ms:.2f} ms per image "
        f"({latency.engine}, timing profile {latency.timing_profile})\n"
        f"           {percent_above(latency.cycles, latency.floor_cycles)} above the sum of the "
        f"layers' rooflines ({latency.floor_cycles:,} cycles), "
        f"{percent_above(latency.cycles, latency.full_floor_cycles)} above the sum of their full "
        f"rooflines ({latency.full_floor_cycles:,} cycles)"
    )


def _exact_lines(report: Report) -> list[str]:
    """Return the comparison of the engines: the deployed variant, each that differs, the rest."""
    own = report.exact
    others = [
        (p.variant, p.exact)
        for p in report.programs
        if p.exact is not None and p.variant != report.deployed
    ]
    lines = [] if own is None else [f"{report.deployed}: {_exact_line(own)}"]
    lines += [f"{name}: {_exact_line(exact)}" for name, exact in others if exact.mismatches]
    equal = [exact for _, exact in others if not exact.mismatches]
    if equal:
        images, tensors = max(e.images for e in equal), sum(e.tensors for e in equal)
        total = Exactness(images=images, tensors=tensors, mismatches=0)
        others_text = "1 other variant" if len(equal) == 1 else f"{len(equal)} other variants"
        lines.append(f"{others_text}: {_exact_line(total)}")
    return [("exact      " if i == 0 else " " * 11) + line for i, line in enumerate(lines)]


def _exact_line(exact: Exactness) -> str:
    told = f"{exact.tensors:,} tensors of {exact.images:,} images compared, "
    if exact.mismatches:
        return f"{told}{exact.mismatches:,} DIFFER; first: {printable(exact.first)}"
    return f"{told}all equal"
