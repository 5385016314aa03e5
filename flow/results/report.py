"""What a deployment found: ``report.json`` (see docs/report.md) and the table at the end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flow.results.bit_choice import BitChoice, bit_lines
from flow.results.evaluate import Metrics
from flow.results.latency import Latency
from flow.sim.timing_report import percent_above
from flow.system.files import write_atomic
from relay_passes.integers.plan import QuantPlan
from relay_passes.partition.layers import Fallback
from relay_passes.scales.bit_widths import Widths
from relay_passes.selection.choices import Choice
from vta_config.hardware import VTAConfig
from vta_config.text import printable, shown_name

#: Raised when a field changes its meaning or goes away; new fields do not raise it.
SCHEMA_VERSION: Final = 3
#: Operators on the host that a line names.
_NAMED: Final = 8
#: Characters of an operator's name and type.
LABEL_CHARS: Final = 120
REPORT_FILE: Final = "report.json"
#: Name and kind of the row for instructions that work for no layer: constants and FINISH.
SETUP: Final = "setup"
#: What GEMM operations are for; they sum to ``gemm_ops``.
GEMM_PARTS: Final = ("gemm_conv_ops", "gemm_bias_ops", "gemm_residual_ops", "gemm_pool_ops")
#: Counters of a layer, in the order of the report; GEMM operations are told by purpose, too.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Exactness:
    """How the engines compared, bit for bit.

    Parameters
    ----------
    images : int
        Images compared.
    tensors : int
        Tensors compared, over all images and engines.
    mismatches : int
        Tensors that differ.
    first : str
        Where the first difference is; "" when there is none.
    """

    images: int
    tensors: int
    mismatches: int
    first: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCounters:
    """What one layer costs on the machine: counters for one image, by the names of `COUNTERS`."""

    name: str
    kind: str
    counters: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What of a compiled variant runs where.

    Parameters
    ----------
    programs : int
        VTA programs; between two of them the host works.
    crossing_bytes : int
        Bytes of the programs' inputs and outputs for one image, as they lie in VTA's DRAM.
    macs, vta_macs : int
        Multiply-accumulate operations of convolutions and dense layers for one image, and VTA's.
    fallbacks : tuple of Fallback
        What the host runs besides quantizing the input and scaling the outputs.
    """

    programs: int
    crossing_bytes: int
    macs: int
    vta_macs: int
    fallbacks: tuple[Fallback, ...] = ()

    @property
    def vta_share(self) -> float | None:
        """VTA's share of the multiply-accumulate operations (0 to 1); None where there are none."""
        return self.vta_macs / self.macs if self.macs else None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        share = self.vta_share
        return asdict(self) | {
            "vta_mac_share": None if share is None else round(share, 6),
            "fallbacks": [asdict(fallback) for fallback in self.fallbacks],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramFacts:
    """What a compiled variant needs: time on the machine, and operators on the host.

    Parameters
    ----------
    variant : str
    latency : Latency, optional
        None when the machine runs nothing.
    placement : Placement
        What runs where.
    choice : Choice, optional
        Which steps were kept; None where nothing was calibrated.
    requantization_error : float
        Largest |used / meant - 1| of any ratio of scales; 0.0: all are exact.
    plan : QuantPlan, optional
        The integers that the scales became; None for stock Relay's quantization.
    exact : Exactness, optional
        None when nothing was compared.
    bits : BitChoice, optional
        Which bits each layer got; None where they were not chosen layer by layer.
    """

    variant: str
    latency: Latency | None
    placement: Placement
    choice: Choice | None = None
    requantization_error: float = 0.0
    plan: QuantPlan | None = None
    exact: Exactness | None = None
    bits: BitChoice | None = None

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
class DataFacts:
    """Which images were used."""

    name: str
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that ``report.json`` says.

    Parameters
    ----------
    model_name, model_sha256 : str
        The model and the sha256 of its ``.onnx`` bytes.
    machine : VTAConfig
        What the programs were compiled for.
    engine : str
        What ran them.
    evaluation, calibration : DataFacts, optional
        The images.
    seed : int
        Of the drawing of images.
    variants : tuple of Metrics
        One a variant, float32 first.
    deployed : str
        The variant whose program and time are told in full.
    layers : tuple of LayerCounters
        Of the deployed variant's program, in execution order.
    seconds : mapping
        Wall time by stage.
    programs : tuple of ProgramFacts
        One a compiled variant, in order.
    skipped : tuple of Skipped
        Variants left out.
    stopped : str
        Why no further variant was tried; "" where all were.
    """

    model_name: str
    model_sha256: str
    machine: VTAConfig
    engine: str
    evaluation: DataFacts | None = None
    calibration: DataFacts | None = None
    seed: int = 0
    variants: tuple[Metrics, ...] = ()
    deployed: str = ""
    layers: tuple[LayerCounters, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    programs: tuple[ProgramFacts, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    stopped: str = ""

    def facts(self, variant: str) -> ProgramFacts | None:
        """Return what a variant's program needs; None when it has none."""
        return next((p for p in self.programs if p.variant == variant), None)

    @property
    def latency(self) -> Latency | None:
        """Return the latency of the deployed variant."""
        facts = self.facts(self.deployed)
        return None if facts is None else facts.latency

    @property
    def placement(self) -> Placement | None:
        """Return what of the deployed variant runs where."""
        facts = self.facts(self.deployed)
        return None if facts is None else facts.placement

    @property
    def exact(self) -> Exactness | None:
        """Return how the engines compared in the deployed variant."""
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
            "model": {"name": self.model_name, "sha256": self.model_sha256},
            "machine": self.machine.to_json(),
            "engine": self.engine,
            "seed": self.seed,
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
        }

    def _variant_json(self, variant: Metrics) -> dict[str, Any]:
        """Return what was measured of a variant, and of its program if it has one."""
        facts = self.facts(variant.name)
        exact = None if facts is None else facts.exact
        return _rounded(asdict(variant)) | {
            "latency": None if facts is None else facts.latency_json(),
            "placement": None if facts is None else facts.placement.to_json(),
            "steps": None if facts is None or facts.choice is None else facts.choice.to_json(),
            "requantization_error": None if facts is None else facts.requantization_error,
            "exact": None if exact is None else asdict(exact),
            "bits": None if facts is None or facts.bits is None else facts.bits.to_json(),
        }


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Round floats to six decimals, far below what the number of images can tell."""
    return {k: round(v, 6) if isinstance(v, float) else v for k, v in values.items()}


def write_report(report: Report, directory: Path) -> Path:
    """Write ``report.json`` into `directory` (made if missing); return its path.

    Raises
    ------
    ArtifactError
        When the folder or the file cannot be written.
    """
    text = json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A name that is no UTF-8 becomes an escape of JSON.
    return write_atomic(directory / REPORT_FILE, text.encode(errors="backslashreplace"))


# ---- the table -----------------------------------------------------------------------------------
def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"


def _points(share: float | None, reference: float | None) -> str:
    return "–" if share is None or reference is None else f"{100 * (share - reference):+.2f}"


def variants_table(variants: tuple[Metrics, ...], programs: tuple[ProgramFacts, ...] = ()) -> Table:
    """Lay the variants out side by side; an asterisk marks times that leave operators out."""
    table = Table(title_justify="left", header_style="bold")
    table.add_column("variant")
    for heading in ("images", "top-1", "Δ points", "top-5", "agreement", "SQNR (dB)", "centred"):
        table.add_column(heading, justify="right")
    if programs:
        for heading in ("requant. error", "VTA cycles", "VTA ms"):
            table.add_column(heading, justify="right")
    facts = {p.variant: p for p in programs}
    reference = next((v.top1 for v in variants if v.name == "float32"), None)
    for v in variants:
        own = v.name == "float32"
        table.add_row(
            v.name,
            f"{v.images:,}",
            _percent(v.top1),
            "" if own else _points(v.top1, reference),
            _percent(v.top5),
            "" if own else _percent(v.agreement),
            *(("", "") if own else sqnr_cells(v)),
            *(_program_cells(facts.get(v.name)) if programs else ()),
        )
    return table


def sqnr_cells(metrics: Metrics) -> tuple[str, str]:
    """Return SQNR and centred SQNR as tables show them; "exact": no difference at all."""
    plain, centred = metrics.sqnr_db, metrics.centred_sqnr_db
    if plain is None:
        return "exact", "exact"
    return f"{plain:.2f}", "–" if centred is None else f"{centred:.2f}"


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
    """Lay the counters of every layer out, their sum last."""
    table = Table(header_style="bold")
    table.add_column("layer", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    shown = [key for key in COUNTERS if key not in GEMM_PARTS]
    for key in shown:
        table.add_column(key.replace("_", " "), justify="right")
    for layer in report.layers:
        values = (f"{layer.counters.get(key, 0):,}" for key in shown)
        table.add_row(name_cell(layer.name), layer.kind, *values)
    table.add_section()
    totals = report.totals()
    table.add_row("total", "", *(f"{totals[key]:,}" for key in shown))
    return table


def latency_table(report: Report) -> Table:
    """Lay the time of every layer out, and what its GEMM operations are for."""
    table = Table(header_style="bold", padding=0)  # 120 characters hold it
    table.add_column("layer", no_wrap=True)
    for heading in ("cycles", "roofline"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("above it", "above all steps", "GEMM use", "bound by", "KiB moved"):
        table.add_column(heading, justify="right")
    for key in GEMM_PARTS:
        table.add_column(f"{key.split('_')[1]} steps", justify="right")
    counters = {layer.name: layer.counters for layer in report.layers if layer.kind != SETUP}
    for layer in () if report.latency is None else report.latency.layers:
        own = counters.get(layer.name, {})
        table.add_row(
            name_cell(layer.name),
            f"{layer.cycles:,}",
            f"{layer.floor:,}",
            percent_above(layer.cycles, layer.floor),
            percent_above(layer.cycles, layer.full_floor),
            f"{layer.utilization:.1%}",
            layer.bound,
            f"{layer.bytes_moved / 1024:,.0f}",
            *(f"{own.get(key, 0):,}" for key in GEMM_PARTS),
        )
    return table


def render(report: Report) -> RenderableType:
    """Return what is shown at the end of a deployment."""
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
            f"program    {count} layers, {total['insns']:,} instructions; one image: "
            f"{total['gemm_ops']:,} GEMM and {total['alu_ops']:,} ALU operations, "
            f"{moved / 1e6:.2f} MB moved"
        )
    if report.latency is not None:
        lines.append("latency    " + _latency_line(report.latency, partial=_is_partial(report)))
    if report.placement is not None:
        lines += _placement_lines(report.placement)
    lines += _partial_lines(report)
    lines += _bits_lines(report)
    lines += _step_lines(report)
    lines += _choice_lines(report)
    lines += [f"left out   {s.variant}: {s.reason}" for s in report.skipped]
    lines += _exact_lines(report)
    if report.seconds:
        stages = ", ".join(f"{stage} {value:.1f}" for stage, value in report.seconds.items())
        lines.append(f"seconds    {stages}; together {sum(report.seconds.values()):.1f}")
    parts: list[RenderableType] = [Text("\n".join(lines))]
    if report.variants:
        parts.insert(0, variants_table(report.variants, report.programs))
    return Group(*parts)


def _placement_lines(placement: Placement) -> list[str]:
    """Tell what runs where: the share of VTA, and the host's operators grouped by reason."""
    programs = f"{placement.programs:,} program" + ("s" if placement.programs != 1 else "")
    share = "none" if placement.vta_share is None else f"{placement.vta_share:.2%}"
    lines = [
        f"on VTA     {share} of {placement.macs / 1e6:,.2f} M multiply-accumulates, in {programs}; "
        f"{placement.crossing_bytes / 1e6:,.3f} MB cross between host and VTA for an image"
    ]
    if not placement.fallbacks:
        return [*lines, "on host    nothing but quantizing the input and scaling the outputs"]
    lines.append(
        f"on host    {len(placement.fallbacks):,} operators, which the latency leaves out:"
    )
    by_reason: dict[str, list[str]] = {}
    for fallback in placement.fallbacks:
        by_reason.setdefault(fallback.reason, []).append(printable(fallback.label, LABEL_CHARS))
    for reason, labels in by_reason.items():
        lines.append(f"           {len(labels):,} × {reason}: {_listed(labels)}")
    return lines


def _partial_lines(report: Report) -> list[str]:
    """Tell of the variants that are not deployed which operators their latency leaves out."""
    return [
        f"           * {p.variant}: VTA's part only; on host "
        + _listed([printable(f.label, LABEL_CHARS) for f in p.placement.fallbacks])
        for p in report.programs
        if p.partial and p.variant != report.deployed
    ]


def _step_lines(report: Report) -> list[str]:
    """Tell which steps of the variants were dropped, as they did not pay on images held apart."""
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
                f"taken as {choice.chosen}: {taken.centred_db:.1f} dB on calibration images, "
                f"where it has {own.centred_db:.1f} dB as it stands"
            )
        nearest = [x.layer for x in choice.layers if x.rounding == "nearest"]
        biases = [x.layer for x in choice.layers if not x.correct_bias]
        for what, layers in (("learned rounding", nearest), ("bias correction", biases)):
            if layers:
                dropped.append(f"{what} dropped in {len(layers):,} layers ({_listed(layers)})")
        lines += [f"{facts.variant}: {text}" for text in dropped]
    return [("steps      " if i == 0 else " " * 11) + line for i, line in enumerate(lines)]


def _bits_lines(report: Report) -> list[str]:
    """Tell the widths of each variant's layers where any has fewer than 8 bits."""
    lines = []
    for facts in report.programs:
        widths = {} if facts.plan is None else facts.plan.widths()
        if set(widths.values()) <= {Widths()}:
            continue
        by_widths: dict[Widths, list[str]] = {}
        for name, own in widths.items():
            by_widths.setdefault(own, []).append(name)
        texts = [
            f"weights {own.weight_bits}, activations {own.activation_bits} in "
            f"{len(names):,} layer{'s' if len(names) != 1 else ''} ({_listed(names)})"
            for own, names in by_widths.items()
        ]
        lines.append(printable(f"{facts.variant}: {'; '.join(texts)}"))
    return [("bits       " if i == 0 else " " * 11) + line for i, line in enumerate(lines)]


def _choice_lines(report: Report) -> list[str]:
    """Tell why layers got their bits, where these were chosen one by one."""
    told = [(p.variant, bit_lines(p.bits)) for p in report.programs if p.bits is not None]
    lines = [f"{variant}: {line}" for variant, found in told for line in found]
    return [("choice     " if i == 0 else " " * 11) + line for i, line in enumerate(lines)]


def _listed(labels: list[str]) -> str:
    """Name the first few."""
    more = len(labels) - _NAMED
    shown = labels if more <= 1 else labels[:_NAMED]
    text = ", ".join(shown)
    return text if more <= 1 else f"{text} and {more:,} more"


def _is_partial(report: Report) -> bool:
    return report.placement is not None and bool(report.placement.fallbacks)


def _latency_line(latency: Latency, *, partial: bool) -> str:
    return (
        f"{'VTA part only: ' if partial else ''}"
        f"{latency.cycles:,} cycles, {latency.ms:.2f} ms an image "
        f"({latency.engine}, timing profile {latency.timing_profile})\n"
        f"           {percent_above(latency.cycles, latency.floor_cycles)} above the layers' "
        f"rooflines ({latency.floor_cycles:,} cycles), "
        f"{percent_above(latency.cycles, latency.full_floor_cycles)} above all steps of COMPUTE "
        f"({latency.full_floor_cycles:,})"
    )


def _exact_lines(report: Report) -> list[str]:
    """Tell how the engines compared: the deployed variant, each with a difference, the rest."""
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
        lines.append(f"{len(equal)} other variants: {_exact_line(total)}")
    return [("exact      " if i == 0 else " " * 11) + line for i, line in enumerate(lines)]


def _exact_line(exact: Exactness) -> str:
    told = f"{exact.tensors:,} tensors of {exact.images:,} images compared, "
    if exact.mismatches:
        return f"{told}{exact.mismatches:,} DIFFER; first: {printable(exact.first)}"
    return f"{told}all equal"
