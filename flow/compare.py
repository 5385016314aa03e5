"""The ablation table: the effect of each step from stock Relay's quantization to `best`."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table

from flow.backend import PipelineBackend
from flow.options import Options
from flow.results.evaluate import Logits, Metrics, measure
from flow.results.fitted_table import FittedTable
from flow.results.metric_cells import percent_cell, sqnr_cells
from flow.results.report import Skipped, error_cell
from flow.sent_model import model_logits
from flow.session import Session, calibrate, float_logits, open_session
from flow.stages import Stages
from flow.system.files import write_atomic
from flow.system.tracebacks import explain, reason_of, worst
from relay_passes.calibration.layer_error import LayerError, layer_errors
from relay_passes.integers.integer_facts import requantization_errors
from relay_passes.quantize_model import run_passes
from relay_passes.variants import STEPS, TABLE, VARIANTS, ZERO_SHOT_OF
from vta_config.errors import ArtifactError, CalibrationError

#: Steps of the table in order, and what each changes.
ABLATION: Final[Mapping[str, str]] = {v.name: v.label for v in TABLE if v.label}
#: Those that are measured unless others are named: distilling images may take half an hour.
USUAL_STEPS: Final = tuple(name for name in ABLATION if name not in ZERO_SHOT_OF)
#: Images on which layers are compared.
LAYER_IMAGES: Final = 16
COMPARE_FILE, PLOT_FILE = "compare.json", "compare.png"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One row of the table.

    Parameters
    ----------
    change : str
        What this step changes.
    metrics : Metrics
        Its accuracy; `name` is the variant's.
    requantization_error : float
        The largest relative error |used / exact - 1| of a requantization ratio.
    layers : tuple[LayerError, ...]
        Worst first; empty for stock Relay, which folds BatchNorm differently.
    seconds : float
        Time to choose scales and round weights.
    """

    change: str
    metrics: Metrics
    requantization_error: float
    layers: tuple[LayerError, ...]
    seconds: float


def compare(
    options: Options,
    stages: Stages,
    *,
    layer_images: int = LAYER_IMAGES,
    folder: Path | None = None,
    skipped: list[Skipped] | None = None,
) -> tuple[Step, ...]:
    """Measure float32 and each step of `options.variants`, by names of `ABLATION`; default: all.

    Steps that need a capability which the machine lacks (``per_channel``) are left out.

    Parameters
    ----------
    options, stages
        As `flow.deploy.deploy`.
    layer_images : int
        Images on which layers are compared.
    folder : Path, optional
        Where the steps so far are written after each, and tracebacks of unexpected errors.
    skipped : list of Skipped, optional
        Gets the steps that fail, while the others go on; by default the first failure is raised.

    Raises
    ------
    CalibrationError
        When a step is unknown.
    FlowError, InternalError
        When no step can be measured; where `skipped` is not given, when one cannot.
    """
    names = options.variants or USUAL_STEPS
    for name in names:
        if name not in ABLATION:
            raise CalibrationError(
                "--step",
                f"must be among {', '.join(ABLATION)}",
                got=name,
                hint="choose one of these",
            )
    session = open_session(options, stages)
    data, backend = session.evaluation, session.backend
    assert data is not None and isinstance(backend, PipelineBackend)
    reference = float_logits(session, stages)
    rows = [_row("", measure("float32", reference, reference, data.targets, session.model.outputs))]
    calibrate(session, stages)
    failures: list[Exception] = []
    for name in names:
        choice = (VARIANTS | STEPS).get(ZERO_SHOT_OF.get(name, name))
        if choice is not None and not choice.options.capabilities <= session.machine.capabilities:
            continue
        try:
            rows.append(_measure(name, session, stages, reference, options.seed, layer_images))
        except Exception as error:
            failures.append(explain(error, folder, where=name))
            if skipped is None:
                raise failures[-1] from None
            skipped.append(Skipped(variant=name, reason=reason_of(failures[-1])))
        else:
            if folder is not None:
                with contextlib.suppress(ArtifactError):  # the last one tells of a full disk
                    _write_json(tuple(rows), folder)
    if failures and len(rows) == 1:
        raise worst(failures)
    return tuple(rows)


def _measure(
    name: str, session: Session, stages: Stages, reference: Logits, seed: int, layer_images: int
) -> Step:
    """Measure one step."""
    data, backend = session.evaluation, session.backend
    assert data is not None and isinstance(backend, PipelineBackend)
    backend.prepare(name, stages)
    pipeline, own = backend.pipeline_of(name)
    choice = (VARIANTS | STEPS).get(own)
    with stages(f"quantize {name}", f"quantizing {name}"):
        # As it stands: `quantize` might return a better form of the variant.
        quantized = pipeline.quantize(own) if choice is None else pipeline.form(own)
    with stages("compile", f"compiling {name}"):
        compiled = pipeline.compile(quantized)
    with stages("fsim", f"running {name}") as progress:
        logits = model_logits(
            compiled, data, session.model.values, session.workers, progress=progress
        )
    layers: tuple[LayerError, ...] = ()
    if choice is not None and layer_images:
        with stages("layers", f"comparing layers of {name}"):
            passes = choice.options.for_machine(session.machine).passes
            sample = data.take(layer_images, seed=seed)
            layers = layer_errors(run_passes(pipeline.folded, passes), quantized, sample)
    return Step(
        change=ABLATION[name],
        metrics=measure(name, logits, reference, data.targets, session.model.outputs),
        requantization_error=max(requantization_errors(quantized).values(), default=0.0),
        layers=layers,
        seconds=stages.seconds[f"quantize {name}"],
    )


def _row(change: str, metrics: Metrics) -> Step:
    return Step(change=change, metrics=metrics, requantization_error=0.0, layers=(), seconds=0.0)


# ---- what the user sees ------------------------------------------------------------------------
def render_steps(steps: tuple[Step, ...]) -> RenderableType:
    """Return the table of steps, and the layers of the last one that has any, worst first."""
    table = FittedTable()
    table.add("variant", is_number=False)
    table.add("change", is_number=False, rank=1)
    for heading, rank in (
        ("top-1\n(%)", 0),
        ("agreement\nwith float32\n(%)", 2),
        ("SQNR\n(dB)", 3),
        ("centred\nSQNR (dB)", 0),
        ("requantization\nerror (relative)", 4),
        ("time\n(s)", 4),
    ):
        table.add(heading, rank=rank)
    for step in steps:
        m = step.metrics
        top1 = percent_cell(m.top1)
        if not step.change:  # float32
            table.add_row(m.name, "", top1, *[""] * 5)
            continue
        table.add_row(
            m.name,
            step.change,
            top1,
            percent_cell(m.agreement),
            *sqnr_cells(m),
            error_cell(step.requantization_error),
            f"{step.seconds:.1f}",
        )
    measured = [step for step in steps if step.layers]
    if not measured:
        return table
    layers = Table(header_style="bold", title=f"{measured[-1].metrics.name}, worst tensor first")
    layers.add_column("tensor")
    layers.add_column("SQNR (dB)", justify="right")
    for error in measured[-1].layers:
        layers.add_row(error.name, f"{error.sqnr_db:.2f}")
    return Group(table, layers)


def write_steps(steps: tuple[Step, ...], directory: Path) -> tuple[Path, ...]:
    """Write ``compare.json`` and, where matplotlib is installed, ``compare.png``."""
    paths = [_write_json(steps, directory)]
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return tuple(paths)
    shown = [step.metrics for step in steps if step.metrics.sqnr_db is not None]
    columns: dict[str, list[Any]] = {"SQNR of the results (dB)": [m.sqnr_db for m in shown]}
    if all(m.agreement is not None for m in shown):  # a classifier
        shares = [100 * (m.agreement or 0.0) for m in shown]
        columns = {"agreement with float32 (%)": shares} | columns
    figure = Figure(figsize=(9, 0.3 * len(shown) + 1.2), layout="constrained")
    names = [m.name for m in shown]
    plots = figure.subplots(1, len(columns), sharey=True, squeeze=False)[0]
    for axes, (label, values) in zip(plots, columns.items(), strict=True):
        axes.plot(values, names, "o", clip_on=False)  # dots, since the axis does not begin at zero
        for name, value in zip(names, values, strict=True):
            axes.annotate(
                f"{value:.1f}", (value, name), (7, 0), textcoords="offset points", va="center"
            )
        axes.margins(x=0.15, y=0.6 / max(len(shown), 1))
        axes.grid(axis="y", alpha=0.3)
        if "%" in label:  # a share ends at 100 %
            axes.set_xlim(right=min(axes.get_xlim()[1], 100.0))
        axes.set_xlabel(label)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    plots[0].invert_yaxis()
    path = directory / PLOT_FILE
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix[1:], dpi=150)
    return (*paths, write_atomic(path, picture.getvalue()))


def _write_json(steps: tuple[Step, ...], directory: Path) -> Path:
    text = json.dumps([asdict(step) for step in steps], indent=2, allow_nan=False) + "\n"
    return write_atomic(directory / COMPARE_FILE, text.encode())
