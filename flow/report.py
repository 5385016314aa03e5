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
from vta_config.errors import ArtifactError
from vta_config.hardware import VTAConfig

#: Raised when a field changes its meaning or goes away; new fields do not raise it.
SCHEMA_VERSION: Final = 1
REPORT_FILE: Final = "report.json"
#: Name and kind of the row for instructions that work for no layer: constants and FINISH.
SETUP: Final = "setup"
#: Counters of a layer, in the order of the report; bytes by memory, then operations.
COUNTERS: Final = (
    "insns",
    "gemm_ops",
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
    exact : Exactness, optional
        None when nothing was compared.
    layers : tuple of LayerCounters
        Of the best variant's program, in execution order.
    seconds : mapping
        Wall time by stage.
    fallbacks : tuple of Fallback
        Operators on the host.
    """

    model_name: str
    model_sha256: str
    machine: VTAConfig
    engine: str
    evaluation: DataFacts | None = None
    calibration: DataFacts | None = None
    seed: int = 0
    variants: tuple[Metrics, ...] = ()
    exact: Exactness | None = None
    layers: tuple[LayerCounters, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    fallbacks: tuple[Fallback, ...] = ()

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
            "variants": [_rounded(asdict(variant)) for variant in self.variants],
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
    nearest = next(p for p in (directory, *directory.absolute().parents) if p.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        problem = "without permission to write" if nearest.is_dir() else "a file"
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


def variants_table(variants: tuple[Metrics, ...]) -> Table:
    """Lay the variants out side by side."""
    table = Table(title_justify="left", header_style="bold")
    table.add_column("variant")
    for heading in ("images", "top-1", "Δ points", "top-5", "agreement", "SQNR (dB)"):
        table.add_column(heading, justify="right")
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
            "" if own else ("exact" if v.sqnr_db is None else f"{v.sqnr_db:.2f}"),
        )
    return table


def layers_table(report: Report) -> Table:
    """Lay the counters of every layer out, their sum last."""
    table = Table(header_style="bold")
    table.add_column("layer", no_wrap=True)
    table.add_column("kind", no_wrap=True)
    for key in COUNTERS:
        table.add_column(key.replace("_", " "), justify="right")
    for layer in report.layers:
        values = (f"{layer.counters.get(key, 0):,}" for key in COUNTERS)
        table.add_row(layer.name, layer.kind, *values)
    table.add_section()
    table.add_row("total", "", *(f"{value:,}" for value in report.totals().values()))
    return table


def render(report: Report) -> RenderableType:
    """Return what is shown at the end of a deployment."""
    machine = report.machine
    lines = [
        f"model      {report.model_name}  (sha256 {report.model_sha256[:12]}…)",
        f"machine    {machine.name}: {machine.batch}×{machine.block}×{machine.block}, "
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
    lines.append("on host    " + _fallback_line(report.fallbacks))
    if report.exact is not None:
        lines.append("exact      " + _exact_line(report.exact))
    if report.seconds:
        stages = ", ".join(f"{stage} {value:.1f}" for stage, value in report.seconds.items())
        lines.append(f"seconds    {stages}; together {sum(report.seconds.values()):.1f}")
    parts: list[RenderableType] = [Text("\n".join(lines))]
    if report.variants:
        parts.insert(0, variants_table(report.variants))
    return Group(*parts)


def _fallback_line(fallbacks: tuple[Fallback, ...]) -> str:
    if not fallbacks:
        return "nothing but quantizing the image and scaling the logits"
    return ", ".join(f"{f.name} ({f.operator}: {f.reason})" for f in fallbacks)


def _exact_line(exact: Exactness) -> str:
    told = f"{exact.tensors:,} tensors of {exact.images:,} images compared, "
    if exact.mismatches:
        return f"{told}{exact.mismatches:,} DIFFER; first: {exact.first}"
    return f"{told}all equal"
