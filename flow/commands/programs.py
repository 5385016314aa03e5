"""``scales``, ``compile``, ``run``, ``disasm`` and ``verify``: one variant, one program."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from flow.commands.arguments import one_variant, variant_option
from flow.commands.deploy import stop_early
from flow.commands.parsers import Commands
from flow.commands.terminal import Terminal, show, to_stdout
from flow.data.datasets import Dataset, image_files
from flow.data.models import picture_preprocessing, request_of
from flow.findings import verify
from flow.options import EXACT_IMAGES, PLANNED_VARIANTS
from flow.outputs import Output, slices_of
from flow.results.evaluate import Network
from flow.results.kept_lines import kept_lines
from flow.results.plan_table import host_lines, plan_table
from flow.results.report import SETUP
from flow.session import Compiled, Session, calibrate, chosen_variants, open_session
from flow.show_stages import Wanted, lines_of
from flow.show_stages import add_options as add_stage_options
from flow.stages import Stages
from flow.system.arguments import positive
from flow.system.files import check_writable, write_atomic
from flow.system.limits import add_options as add_limit_options
from flow.system.limits import of_options
from flow.system.process import EXIT_MISMATCH
from vta_config.errors import CalibrationError, ConfigError
from vta_config.text import printable, shown_name


def add_scales(commands: Commands) -> None:
    """Add ``scales``."""
    scales = commands.add(
        "scales",
        _scales,
        "Show the scales, shifts and multipliers of each layer of a variant.",
        commands.model,
        commands.learning,
        commands.bits,
    )
    variant_option(scales, PLANNED_VARIANTS)
    scales.add_argument("--json", action="store_true", help="write JSON instead of a table")


def add(commands: Commands) -> None:
    """Add ``compile``, ``run``, ``disasm`` and ``verify``."""
    compile_ = commands.add(
        "compile",
        _compile,
        "Compile a variant to DIR/MODEL.vta.",
        commands.model,
        commands.learning,
        commands.engine,
        commands.bits,
    )
    variant_option(compile_)
    compile_.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("out/compile"),
        help="folder for the program files, DIR/MODEL.vta (default: out/compile)",
    )
    add_stage_options(compile_)
    run = commands.add(
        "run",
        _run,
        "Run images: show the classes with the largest logits, or the range of each output.",
        commands.model,
        commands.learning,
        commands.engine,
        commands.bits,
    )
    variant_option(run)
    run.add_argument("image", nargs="+", type=Path, help="image file: a picture, or float tensors")
    run.add_argument("--top", type=positive, default=5, metavar="K", help="number of classes")
    run.add_argument(
        "--names", type=Path, metavar="FILE", help="text file with one class name per line"
    )
    disasm = commands.add(
        "disasm", _disasm, "Disassemble a program file; the text can be assembled again."
    )
    disasm.add_argument("program", type=Path, metavar="FILE.vta", help="program file")
    disasm.add_argument("--output", type=Path, metavar="FILE", help="output file (default: stdout)")
    add_limit_options(disasm, steps=False)
    verify = commands.add(
        "verify",
        _verify,
        "Compare all engines bit for bit; report the first tensor that differs (exit code 1).",
        commands.model,
        commands.learning,
        commands.images,
        commands.engine,
        commands.bits,
    )
    variant_option(verify)


def _scales(args: argparse.Namespace) -> int:
    stages = Stages(Terminal())
    session, variant = quantized(args, stages, needs_images=False)
    plan = session.backend.plan(variant)
    assert plan is not None, variant
    if args.json:
        with to_stdout():
            sys.stdout.write(json.dumps(plan.to_json(), indent=2) + "\n")
    else:
        kept = kept_lines([(variant, session.backend.deviation(variant))])
        show(plan_table(plan), *host_lines(plan), *kept, whole=True)
    return 0


def _compile(args: argparse.Namespace) -> int:
    if args.output.suffix == ".vta" and not args.output.is_dir():
        raise ConfigError(
            "--output",
            "must be a folder, in which the program is called MODEL.vta",
            got=str(args.output),
            hint=f"give the folder, as --output {args.output.parent}",
        )
    check_writable(args.output)
    wanted = Wanted.of_options(args)
    if wanted.stops:
        return stop_early(one_variant(args), wanted)
    compiled, session, variant = _compiled(args, Stages(Terminal()))
    args.output.mkdir(parents=True, exist_ok=True)
    paths = compiled.save(args.output / f"{session.model.name}.vta")
    files = lines_of(wanted.write(session.backend, variant))
    sizes = [f"{path}: {path.stat().st_size:,} bytes" for path in paths]
    layers = sum(layer.kind != SETUP for layer in compiled.layers)
    show("\n".join(map(printable, sizes)) + f", {layers} layers", *files, kept=str(args.output))
    return 0


def quantized(
    args: argparse.Namespace, stages: Stages, *, needs_images: bool
) -> tuple[Session, str]:
    """Import, calibrate and quantize one variant; return its name, too."""
    options = one_variant(args)
    session = open_session(options, stages, needs_images=needs_images)
    (variant,) = chosen_variants(options, session.model)
    calibrate(session, stages)
    session.backend.prepare(variant, stages)
    with stages("quantize", f"quantizing {variant}") as progress:
        session.backend.quantize(variant, progress)
    return session, variant


def _compiled(
    args: argparse.Namespace, stages: Stages, *, needs_images: bool = False
) -> tuple[Compiled, Session, str]:
    """Import, calibrate and compile one variant."""
    session, variant = quantized(args, stages, needs_images=needs_images)
    with stages("compile", f"compiling {variant}"):
        return session.backend.compile(variant), session, variant


def _run(args: argparse.Namespace) -> int:
    names = _class_names(args.names)
    compiled, session, _ = _compiled(args, Stages(Terminal()))
    model = session.model
    options = one_variant(args)
    data = image_files(
        args.image,
        picture_preprocessing(model, request_of(options.model, options.request)),
        shape=model.input_shape,
        file_shape=model.file_shape,
        inputs=model.inputs,
    )
    network = compiled.networks()[0]
    if model.classes is None:
        show(_outputs_table(data, network, model.outputs))
        return 0
    table = Table(header_style="bold")
    for heading in ("image", "class", "name", "logit"):
        table.add_column(heading, justify="right" if heading in ("class", "logit") else "left")
    for position, image in enumerate(data):
        path = printable(data.source.where(position))
        logits = np.asarray(network(image), np.float32).reshape(-1)
        order = np.argsort(-logits, kind="stable")[: args.top]
        for place, index in enumerate(order):
            name = names[index] if index < len(names) else ""
            cells = (path if place == 0 else "", str(index), printable(name))
            table.add_row(*map(Text, cells), f"{logits[index]:.4f}")
        table.add_section()
    show(table)
    return 0


def _outputs_table(data: Dataset, network: Network, outputs: tuple[Output, ...]) -> Table:
    """Run a network that is no classifier; return the range of each of its outputs."""
    table = Table(header_style="bold")
    for heading in ("image", "output", "shape"):
        table.add_column(heading)
    for heading in ("least", "mean", "largest"):
        table.add_column(heading, justify="right")
    for position, image in enumerate(data):
        row = np.asarray(network(image), np.float32).reshape(-1)
        for place, (output, part) in enumerate(zip(outputs, slices_of(outputs), strict=True)):
            path = printable(data.source.where(position)) if place == 0 else ""
            shape = "×".join(map(str, output.shape))
            numbers = (f"{f(row[part]):.4f}" for f in (np.min, np.mean, np.max))
            table.add_row(Text(path), Text(shown_name(output.name)), shape, *numbers)
        table.add_section()
    return table


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
        with to_stdout():
            sys.stdout.write(text)
    return 0


def _verify(args: argparse.Namespace) -> int:
    stages = Stages(Terminal())
    compiled, session, variant = _compiled(args, stages, needs_images=True)
    assert session.evaluation is not None
    images = session.evaluation.take(args.limit or EXACT_IMAGES, seed=args.seed)
    exact = verify(compiled, images, stages, variant)
    told = f"{exact.tensors:,} tensors of {exact.images:,} images"
    if exact.mismatches:
        show(f"{exact.mismatches:,} of {told} differ; first: {exact.first}", kept="the exit code")
        return EXIT_MISMATCH
    show(f"{told} compared, all equal", kept="the exit code")
    return 0
