"""What a deployment found: ``report.json`` (see docs/report.md) and the table at the end."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from flow.evaluate import Metrics
from flow.latency import Latency
from flow.sim.timing_report import percent_above
from vta_config.errors import ArtifactError
from vta_config.hardware import VTAConfig
from vta_config.text import printable, shown_name

#: Raised when a field changes its meaning or goes away; new fields do not raise it.
SCHEMA_VERSION: Final = 2
#: Operators on the host that the table names, of variants that are not deployed.
_NAMED: Final = 8
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
class Fallback:
    """An operator that runs on the host, and why."""

    name: str
    operator: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramFacts:
    """What a compiled variant needs: time on the machine, and operators on the host.

    Parameters
    ----------
    variant : str
    latency : Latency, optional
        None when the machine runs nothing.
    fallbacks : tuple of Fallback
        What the latency leaves out.
    requantization_error : float
        Largest |used / meant - 1| of any ratio of scales; 0.0: all are exact.
    exact : Exactness, optional
        None when nothing was compared.
    """

    variant: str
    latency: Latency | None
    fallbacks: tuple[Fallback, ...] = ()
    requantization_error: float = 0.0
    exact: Exactness | None = None


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
    fallbacks : tuple of Fallback
        Operators of the deployed variant on the host.
    programs : tuple of ProgramFacts
        One a compiled variant, in order.
    skipped : tuple of Skipped
        Variants left out.
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
    fallbacks: tuple[Fallback, ...] = ()
    programs: tuple[ProgramFacts, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    def facts(self, variant: str) -> ProgramFacts | None:
        """Return what a variant's program needs; None when it has none."""
        return next((p for p in self.programs if p.variant == variant), None)

    @property
    def latency(self) -> Latency | None:
        """Return the latency of the deployed variant."""
        facts = self.facts(self.deployed)
        return None if facts is None else facts.latency

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
            "deployed": self.deployed or None,
            "latency": None if self.latency is None else self.latency.to_json(),
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
            "fallbacks": [asdict(fallback) for fallback in self.fallbacks],
        }

    def _variant_json(self, variant: Metrics) -> dict[str, Any]:
        """Return what was measured of a variant, and of its program if it has one."""
        facts = self.facts(variant.name)
        latency, exact = (None, None) if facts is None else (facts.latency, facts.exact)
        return _rounded(asdict(variant)) | {
            "latency": None if latency is None else latency.to_json(),
            "fallbacks": [] if facts is None else [asdict(f) for f in facts.fallbacks],
            "requantization_error": None if facts is None else facts.requantization_error,
            "exact": None if exact is None else asdict(exact),
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
    return write_atomic(directory / REPORT_FILE, text.encode())


def write_atomic(path: Path, data: bytes) -> Path:
    """Write `data` to a temporary file beside `path`, then rename it: all of it or nothing.

    Raises
    ------
    ArtifactError
        When that is not possible.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise ArtifactError(
            str(path),
            "must be writable",
            got=error.strerror or str(error),
            hint="choose another --output",
        ) from None
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
    return path


def check_writable(directory: Path) -> None:
    """Check, before any long work, that `directory` can be made and written to; makes nothing.

    Raises
    ------
    ArtifactError
        When it cannot.
    """
    nearest = next(p for p in (directory, *directory.absolute().parents) if os.path.lexists(p))
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        problem = "a file" if nearest.exists() else "a broken link"
        if nearest.is_dir():
            problem = "without permission to write"
        raise ArtifactError(
            str(directory),
            "must be a folder that can be written to",
            got=f"{nearest}, {problem}",
            hint="choose another --output",
        )


# ---- the table -----------------------------------------------------------------------------------
def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"


def _points(share: float | None, reference: float | None) -> str:
    return "–" if share is None or reference is None else f"{100 * (share - reference):+.2f}"


def variants_table(variants: tuple[Metrics, ...], programs: tuple[ProgramFacts, ...] = ()) -> Table:
    """Lay the variants out side by side; an asterisk marks times that leave operators out."""
    table = Table(title_justify="left", header_style="bold")
    table.add_column("variant")
    for heading in ("images", "top-1", "Δ points", "top-5", "agreement", "SQNR (dB)"):
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
            "" if own else sqnr_cell(v.sqnr_db),
            *(_program_cells(facts.get(v.name)) if programs else ()),
        )
    return table


def sqnr_cell(decibels: float | None) -> str:
    """Return an SQNR as a table shows it; None: no difference at all."""
    return "exact" if decibels is None else f"{decibels:.2f}"


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
    mark = "*" if facts.fallbacks else ""
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
            f"{layer.floor_cycles:,}",
            percent_above(layer.cycles, layer.floor_cycles),
            percent_above(layer.cycles, layer.full_floor_cycles),
            f"{layer.gemm_utilization:.1%}",
            layer.bound,
            f"{layer.bytes / 1024:,.0f}",
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
        lines.append("latency    " + _latency_line(report.latency))
    lines.append("on host    " + _fallback_line(report.fallbacks))
    if report.variants:
        lines += [
            f"           * {p.variant}: VTA's part only; on host {_named(p.fallbacks)}"
            for p in report.programs
            if p.fallbacks and p.variant != report.deployed  # whose are told above
        ]
    lines += [f"left out   {s.variant}: {s.reason}" for s in report.skipped]
    lines += _exact_lines(report)
    if report.seconds:
        stages = ", ".join(f"{stage} {value:.1f}" for stage, value in report.seconds.items())
        lines.append(f"seconds    {stages}; together {sum(report.seconds.values()):.1f}")
    parts: list[RenderableType] = [Text("\n".join(lines))]
    if report.variants:
        parts.insert(0, variants_table(report.variants, report.programs))
    return Group(*parts)


def _fallback_line(fallbacks: tuple[Fallback, ...]) -> str:
    if not fallbacks:
        return "nothing but quantizing the image and scaling the logits"
    return ", ".join(f"{shown_name(f.name)} ({f.operator}: {f.reason})" for f in fallbacks)


def _named(fallbacks: tuple[Fallback, ...]) -> str:
    more = len(fallbacks) - _NAMED
    shown = fallbacks if more <= 1 else fallbacks[:_NAMED]
    text = ", ".join(f"{shown_name(f.name)} ({f.operator})" for f in shown)
    return text if more <= 1 else f"{text} and {more} more"


def _latency_line(latency: Latency) -> str:
    return (
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
