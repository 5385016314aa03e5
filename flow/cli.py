"""The command line, ``vta-flow``: options in, progress bars and a table out.

What is found is written first and shown then, so that nothing is lost with stdout.
`flow.system.process` has the exit codes, and what becomes of errors and signals.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.table import Table
from rich.text import Text

from flow import deploy as jobs
from flow.data.datasets import Dataset, FileSource
from flow.data.models import DEFAULT_MODEL, MIRRORS, model_names, preprocessing_of
from flow.findings import verify
from flow.options import (
    BEST_VARIANT,
    ENGINES,
    EXACT_IMAGES,
    KNOWN_VARIANTS,
    MAIN_VARIANTS,
    OBJECTIVES,
    OTHERS_EXACT_IMAGES,
    PLANNED_VARIANTS,
    Options,
)
from flow.results.latency import can_plot
from flow.results.plan_table import host_lines, plan_table
from flow.results.report import (
    SETUP,
    Report,
    Skipped,
    latency_table,
    layers_table,
    render,
    write_report,
)
from flow.session import Compiled, Session, calibrate, open_session
from flow.show_stages import Wanted, lines_of, stop
from flow.show_stages import add_options as add_stage_options
from flow.stages import Progress, Stages
from flow.system import process
from flow.system.arguments import factor, natural, positive, seconds
from flow.system.files import check_writable, write_atomic
from flow.system.limits import add_options as add_limit_options
from flow.system.limits import of_options
from flow.system.process import EXIT_BAD_INPUT, EXIT_MISMATCH
from vta_config.errors import ArtifactError, CalibrationError
from vta_config.hardware import preset_names
from vta_config.text import printable

_EXIT_CODES: Final = (
    "exit codes: 0 success; 1 engines computed different integers; 2 the input cannot be used; "
    "3 internal error, with its traceback in a file; 130 interrupted, 143 terminated"
)
#: Columns when the output is a file or a pipe.
PLAIN_COLUMNS: Final = 132


class _Console(Console):
    """A console that leaves it to us what becomes of an output that nobody reads."""

    def on_broken_pipe(self) -> None:
        """Let the error out; by default the process would end with 1."""
        raise


class Terminal:
    """Progress bars on stderr, none when it is not a terminal, or no longer one."""

    def __init__(self) -> None:
        """Look where stderr goes."""
        self._console = _Console(stderr=True)
        self._bars: Bars | None = None

    def open(self, text: str) -> Progress:
        """Start a bar."""
        if not self._console.is_terminal:
            return lambda done, total: None
        bars = Bars(
            TextColumn("{task.description:<32}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        )
        task = bars.add_task(printable(text), total=None)
        with contextlib.suppress(OSError):
            bars.start()
            self._bars = bars

        def move(done: int, total: int) -> None:
            with contextlib.suppress(OSError):
                bars.update(task, completed=done, total=total or None)

        return move

    def close(self) -> None:
        """End the bar, full."""
        bars, self._bars = self._bars, None
        if bars is not None:
            with contextlib.suppress(OSError):
                for task in bars.tasks:
                    done = task.completed or 1
                    bars.update(task.id, completed=done, total=task.total or done)
                bars.stop()


def output_console() -> Console:
    """Return where tables go: stdout, wide enough for a table when it is a file."""
    width = None if sys.stdout.isatty() else PLAIN_COLUMNS
    return _Console(highlight=False, markup=False, width=width)  # names may hold brackets


@contextlib.contextmanager
def _stdout(kept: str = "") -> Iterator[None]:
    """Run what prints to stdout, which may be full or gone.

    Parameters
    ----------
    kept : str
        Where else the user finds the result, such as a file; "" where nowhere.

    Raises
    ------
    ArtifactError
        When stdout cannot be written to and the result is nowhere else. A reader that has read
        enough (``| head``) is no error.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        process.silence(sys.stdout)
    except OSError as error:
        process.silence(sys.stdout)
        lost = ArtifactError(
            "stdout",
            "must be writable",
            got=error.strerror or str(error),
            hint=f"the result is in {kept}" if kept else "write to another place",
        )
        if not kept:
            raise lost from None
        process.complain(str(lost))


def show(*parts: RenderableType, kept: str = "") -> None:
    """Print text and tables to stdout; see `_stdout`."""
    with _stdout(kept):
        console = output_console()
        for part in parts:
            console.print(part)


# ---- options ---------------------------------------------------------------------------------
def _model_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("model and machine")
    group.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME|FILE",
        help=f"ONNX file (.onnx, .onnx.xz) or one of {', '.join(model_names())} "
        "(default: %(default)s, which is part of the package; the others are downloaded once)",
    )
    group.add_argument(
        "--calibration", type=Path, metavar="DIR", help="folder of images for calibration"
    )
    group.add_argument(
        "--config",
        default="default",
        metavar="PRESET|JSON",
        help=f"machine: {', '.join(preset_names())}, or a vta_config.json (default: %(default)s)",
    )
    group.add_argument("--mirror", metavar="URL", help="base URL for downloading named models")
    group.add_argument("--cache", type=Path, metavar="DIR", help="folder for downloads, schedules")
    group.add_argument(
        "--skip-import-check",
        action="store_true",
        help="do not compare the imported float graph with ONNX Runtime first",
    )
    group.add_argument(
        "--model-limit",
        type=factor,
        default=1.0,
        metavar="FACTOR",
        help="multiply the limits for the model: file size, tensor size, multiplications "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--search",
        action="store_true",
        help="choose schedules with the cycle-level simulator (slow the first time, then cached)",
    )
    group.add_argument(
        "--objective",
        choices=OBJECTIVES,
        default=OBJECTIVES[0],
        help="choose the input layout (plain, space-to-depth, im2col) by cycles and DRAM traffic, "
        "or by cycles alone (default: %(default)s)",
    )
    return parser


def _image_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("images")
    group.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of images to evaluate, with labels.csv (filename,label_index) or one "
        "subfolder per class",
    )
    group.add_argument("--limit", type=positive, metavar="N", help="evaluate at most N images")
    group.add_argument("--seed", type=natural, default=0, help="seed for the choice of --limit")
    return parser


def _engine_options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine",
        choices=ENGINES,
        default="fsim",
        help="engine that runs the programs: functional simulator, cycle-level simulator, numpy "
        "oracle (slow), or driver library (default: %(default)s)",
    )
    group.add_argument(
        "--driver",
        type=Path,
        metavar="LIB",
        help="shared library with the original VTA driver functions, for --engine driver; it runs "
        "in a separate process",
    )
    group.add_argument(
        "--driver-timeout",
        type=seconds,
        metavar="SECONDS",
        help="stop if one call of the driver takes longer (default: no limit)",
    )
    return parser


def _variant_option(
    parser: argparse.ArgumentParser, choices: Sequence[str] = KNOWN_VARIANTS
) -> None:
    parser.add_argument(
        "--variant",
        choices=choices,
        default=BEST_VARIANT,
        help="quantization variant (default: %(default)s)",
    )


def _variants_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--variant",
        action="append",
        choices=KNOWN_VARIANTS,
        help="variant to measure; repeatable (default: all for the bundled model, "
        f"{', '.join(MAIN_VARIANTS)} for others)",
    )


def build_parser(prog: str = "vta-flow") -> argparse.ArgumentParser:
    """Describe every subcommand and option."""
    parser = argparse.ArgumentParser(
        prog=prog,
        description="Compile an ONNX CNN for the VTA accelerator with integers only; measure it.",
        epilog=_EXIT_CODES,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="SUBCOMMAND")
    model, images, engine = _model_options(), _image_options(), _engine_options()

    def add(name: str, run: Callable[[argparse.Namespace], int], about: str, *parents: object):  # type: ignore[no-untyped-def]
        command = commands.add_parser(
            name,
            help=about,
            description=about,
            epilog=_EXIT_CODES,
            parents=list(parents),  # type: ignore[arg-type]
        )
        command.set_defaults(run=run)
        return command

    deploy = add(
        "deploy",
        _deploy,
        "Run the whole flow: quantize every variant, compile, run, verify, report.",
        model,
        images,
        engine,
    )
    _add_deploy_options(deploy)
    add_stage_options(deploy)
    evaluate = add(
        "evaluate",
        _evaluate,
        "Compare the accuracy of variants with float32, without verifying engines.",
        model,
        images,
        engine,
    )
    _variants_option(evaluate)
    evaluate.add_argument("--output", type=Path, metavar="DIR", help="also write DIR/report.json")
    scales = add(
        "scales",
        _scales,
        "Show the scales, shifts and multipliers of each layer of a variant.",
        model,
    )
    _variant_option(scales, PLANNED_VARIANTS)
    scales.add_argument("--json", action="store_true", help="write JSON instead of a table")
    compile_ = add("compile", _compile, "Compile a variant to DIR/MODEL.vta.", model, engine)
    _variant_option(compile_)
    compile_.add_argument("--output", type=Path, metavar="DIR", default=Path("out/compile"))
    add_stage_options(compile_)
    run = add("run", _run, "Classify images.", model, engine)
    _variant_option(run)
    run.add_argument("image", nargs="+", type=Path, help="image file")
    run.add_argument("--top", type=positive, default=5, metavar="K", help="number of classes")
    run.add_argument(
        "--names", type=Path, metavar="FILE", help="text file with one class name per line"
    )
    disasm = add("disasm", _disasm, "Disassemble a program file; the text can be assembled again.")
    disasm.add_argument("program", type=Path, metavar="FILE.vta", help="program file")
    disasm.add_argument("--output", type=Path, metavar="FILE", help="output file (default: stdout)")
    add_limit_options(disasm, steps=False)
    verify = add(
        "verify",
        _verify,
        "Compare all engines bit for bit; report the first tensor that differs (exit code 1).",
        model,
        images,
        engine,
    )
    _variant_option(verify)
    compare = add("compare", _compare, "Measure each step from stock Relay to best.", model, images)
    compare.add_argument(
        "--step", action="append", metavar="NAME", help="step to measure; repeatable (default: all)"
    )
    compare.add_argument("--output", type=Path, metavar="DIR", default=Path("out/compare"))
    return parser


def _add_deploy_options(parser: argparse.ArgumentParser) -> None:
    _variants_option(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("out/deploy"),
        help="output folder for report.json, the trace and the plots (default: %(default)s)",
    )
    parser.add_argument(
        "--exact-images",
        type=natural,
        default=EXACT_IMAGES,
        metavar="N",
        help="number of images on which engines are compared tensor by tensor; at most "
        f"{OTHERS_EXACT_IMAGES} for variants that are not deployed (default: %(default)s)",
    )
    parser.add_argument(
        "--layers", action="store_true", help="also print counters and latency per layer"
    )


def _chosen(args: argparse.Namespace) -> tuple[str, ...] | None:
    """Return the variants named, in the order of the report; None for the default."""
    return tuple(v for v in KNOWN_VARIANTS if v in args.variant) if args.variant else None


def _options(args: argparse.Namespace, variants: tuple[str, ...] | None, exact: int = 0) -> Options:
    """Turn parsed arguments into options; a subcommand may lack some."""
    return Options(
        model=args.model,
        images=getattr(args, "images", None),
        calibration=args.calibration,
        config=args.config,
        engine=getattr(args, "engine", "fsim"),
        driver=getattr(args, "driver", None),
        driver_timeout_s=getattr(args, "driver_timeout", None),
        limit=getattr(args, "limit", None),
        seed=getattr(args, "seed", 0),
        variants=variants,
        exact_images=exact,
        mirrors=MIRRORS if args.mirror is None else (args.mirror,),
        cache=args.cache,
        search=args.search,
        objective=args.objective,
        check_import=not args.skip_import_check,
        model_limit=args.model_limit,
    )


# ---- subcommands -----------------------------------------------------------------------------
def _deploy(args: argparse.Namespace) -> int:
    check_writable(args.output)
    wanted = Wanted.of_options(args)
    options = _options(args, _chosen(args), args.exact_images)
    if wanted.stops:
        return _stop(options, wanted)
    written: list[Path] = []
    report, compiled = jobs.deploy(
        options,
        Stages(Terminal()),
        folder=args.output,
        show=(lambda *of: written.extend(wanted.write(*of))) if wanted.names else None,
    )
    tables = [render(report)]
    if args.layers:
        tables += [layers_table(report), latency_table(report)]
    lines = lines_of(written)
    try:
        path = write_report(report, args.output)
        lines.append(f"report     {path}")
        if report.latency is not None:
            lines.append(f"timing     {', '.join(p.name for p in compiled.draw(args.output))}")
            if not can_plot():
                lines.append("           no plots: matplotlib is missing; install vta-flow[plot]")
    finally:  # what was measured is worth showing also where a file cannot be written
        show(*tables, *lines, kept=str(args.output))
    return _exit_code(report)


def _stop(options: Options, wanted: Wanted) -> int:
    show(*lines_of(stop(options, wanted, Stages(Terminal()))), kept=str(wanted.folder))
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    if args.output is not None:
        check_writable(args.output)
    options = _options(args, _chosen(args))
    report, _ = jobs.deploy(options, Stages(Terminal()), folder=args.output)
    try:
        if args.output is not None:
            write_report(report, args.output)
    finally:
        show(render(report), kept=str(args.output or ""))
    return _exit_code(report)


def _exit_code(report: Report) -> int:
    if report.stopped:
        process.complain(f"stopped: {report.stopped}")
        return EXIT_BAD_INPUT
    return EXIT_MISMATCH if report.mismatches else 0


def _scales(args: argparse.Namespace) -> int:
    stages = Stages(Terminal())
    session = open_session(_options(args, (args.variant,)), stages, needs_images=False)
    calibrate(session, stages)
    with stages("quantize", f"quantizing {args.variant}"):
        plan = session.backend.plan(args.variant)
    assert plan is not None, args.variant
    if args.json:
        with _stdout():
            sys.stdout.write(json.dumps(plan.to_json(), indent=2) + "\n")
    else:
        show(plan_table(plan), *host_lines(plan))
    return 0


def _compile(args: argparse.Namespace) -> int:
    check_writable(args.output)
    wanted = Wanted.of_options(args)
    if wanted.stops:
        return _stop(_options(args, (args.variant,)), wanted)
    compiled, session = _compiled(args, Stages(Terminal()))
    args.output.mkdir(parents=True, exist_ok=True)
    paths = compiled.save(args.output / f"{session.model.name}.vta")
    files = lines_of(wanted.write(session.backend, args.variant))
    sizes = [f"{path}: {path.stat().st_size:,} bytes" for path in paths]
    layers = sum(layer.kind != SETUP for layer in compiled.layers)
    show("\n".join(map(printable, sizes)) + f", {layers} layers", *files, kept=str(args.output))
    return 0


def _compiled(
    args: argparse.Namespace, stages: Stages, *, needs_images: bool = False
) -> tuple[Compiled, Session]:
    """Import, calibrate and compile one variant."""
    session = open_session(_options(args, (args.variant,)), stages, needs_images=needs_images)
    calibrate(session, stages)
    with stages("compile", f"compiling {args.variant}"):
        return session.backend.compile(args.variant), session


def _run(args: argparse.Namespace) -> int:
    names = _class_names(args.names)
    compiled, session = _compiled(args, Stages(Terminal()))
    data = Dataset(
        name="images",
        source=FileSource(tuple(args.image)),
        preprocessing=preprocessing_of(session.model),
    )
    network = compiled.networks()[0]
    table = Table(header_style="bold")
    for heading in ("image", "class", "name", "logit"):
        table.add_column(heading, justify="right" if heading in ("class", "logit") else "left")
    for path, image in zip(args.image, data, strict=True):
        logits = np.asarray(network(image), np.float32).reshape(-1)
        order = np.argsort(-logits, kind="stable")[: args.top]
        for place, index in enumerate(order):
            name = names[index] if index < len(names) else ""
            cells = (printable(str(path)) if place == 0 else "", str(index), printable(name))
            table.add_row(*map(Text, cells), f"{logits[index]:.4f}")
        table.add_section()
    show(table)
    return 0


def _class_names(path: Path | None) -> list[str]:
    """Read one class name per line."""
    if path is None:
        return []
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(
            str(path), "must be a text file with one class name per line", got=error,
            hint="check --names",
        ) from None  # fmt: skip


def _disasm(args: argparse.Namespace) -> int:
    from flow.program.asm import disassemble
    from flow.program.program import Program

    program = Program.load(args.program, limits=of_options(args))
    text = disassemble(program.insns, program.config)
    if args.output is not None:
        write_atomic(args.output, text.encode(errors="backslashreplace"))
    else:
        with _stdout():
            sys.stdout.write(text)
    return 0


def _verify(args: argparse.Namespace) -> int:
    stages = Stages(Terminal())
    compiled, session = _compiled(args, stages, needs_images=True)
    assert session.evaluation is not None
    images = session.evaluation.take(args.limit or EXACT_IMAGES, seed=args.seed)
    exact = verify(compiled, images, stages, args.variant)
    told = f"{exact.tensors:,} tensors of {exact.images:,} images"
    if exact.mismatches:
        show(f"{exact.mismatches:,} of {told} differ; first: {exact.first}", kept="the exit code")
        return EXIT_MISMATCH
    show(f"{told} compared, all equal", kept="the exit code")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from flow.compare import ABLATION, compare, render_steps, write_steps

    check_writable(args.output)
    options, skipped = _options(args, tuple(args.step or ABLATION)), list[Skipped]()
    steps = compare(options, Stages(Terminal()), folder=args.output, skipped=skipped)
    lines = [f"skipped    {step.variant}: {step.reason}" for step in skipped]
    try:
        lines += [str(path) for path in write_steps(steps, args.output)]
    finally:
        show(render_steps(steps), *lines, kept=str(args.output))
    return 0


# ---- entry point -----------------------------------------------------------------------------
def run(argv: Sequence[str] | None, prog: str, work: process.Work) -> int:
    """Run a subcommand; return the exit code, or raise."""
    args = build_parser(prog).parse_args(argv)
    if args.command != "disasm":  # which writes a file
        work.folder = getattr(args, "output", None)
    code: int = args.run(args)
    return code


def main(argv: Sequence[str] | None = None, *, prog: str = "vta-flow") -> int:
    """Run a subcommand and return the exit code, in a process that does other things, too.

    `flow.__main__` is the program itself.
    """
    return process.run(prog, lambda work: run(argv, prog, work))
