"""``scales``, ``compile``, ``run`` and ``verify``: one variant of a model, or an artefact."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Final

from flow.commands.answers import answers_of, class_names
from flow.commands.arguments import json_option, one_variant, variant_option
from flow.commands.artefacts import artefact_options, run_artefact, verify_artefact
from flow.commands.deploy import stop_early
from flow.commands.parsers import Commands
from flow.commands.terminal import Terminal, show, show_json
from flow.data.datasets import image_files
from flow.data.models import picture_preprocessing, request_of
from flow.findings import verify
from flow.options import EXACT_IMAGES, PLANNED_VARIANTS
from flow.results.kept_lines import kept_lines
from flow.results.plan_table import host_lines, plan_table
from flow.results.report import SETUP
from flow.session import Compiled, Session, calibrate, chosen_variants, open_session
from flow.show_stages import Wanted, lines_of
from flow.show_stages import add_options as add_stage_options
from flow.stages import Stages
from flow.system.arguments import positive
from flow.system.files import check_writable
from flow.system.process import EXIT_MISMATCH
from vta_config.errors import ConfigError
from vta_config.text import printable

#: Behind a model's name: the folder that can be deployed, beside the program.
ARTEFACT_SUFFIX: Final = ".artefact"


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
    json_option(scales, "the quantization plan")


def add(commands: Commands) -> None:
    """Add ``compile``, ``run`` and ``verify``."""
    compile_ = commands.add(
        "compile",
        _compile,
        "Compile a variant to DIR/MODEL.vta, and to DIR/MODEL.artefact with all that runs it.",
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
        "Run images: show the classes with the largest logits, or the range of each output. With "
        "an artefact, a folder that deploy or compile wrote, no model is needed; with a program "
        "file (.vta) alone, images are int8 arrays (.npy), one for each input of the program.",
        commands.model,
        commands.learning,
        commands.engine,
        commands.bits,
    )
    variant_option(run)
    run.add_argument(
        "image",
        nargs="+",
        type=Path,
        metavar="IMAGE",
        help="image file: a picture, or float tensors; an artefact comes before the first one",
    )
    run.add_argument("--top", type=positive, default=5, metavar="K", help="number of classes")
    run.add_argument(
        "--names", type=Path, metavar="FILE", help="text file with one class name per line"
    )
    run.add_argument(
        "--save", type=Path, metavar="DIR", help="also write each output to DIR/NUMBER.OUTPUT.npy"
    )
    json_option(run, "the answers")
    artefact_options(run, commands)
    verify = commands.add(
        "verify",
        _verify,
        "Compare all engines bit for bit; report the first tensor that differs (exit code 1). "
        "With an artefact, a folder that deploy or compile wrote or a program file (.vta), no "
        "model is needed, and without --images random tensors are used.",
        commands.model,
        commands.learning,
        commands.images,
        commands.engine,
        commands.bits,
    )
    variant_option(verify)
    verify.add_argument(
        "artefact", nargs="?", type=Path, metavar="ARTEFACT", help="in place of a model"
    )
    json_option(verify, "what was compared")
    artefact_options(verify, commands)


def _scales(args: argparse.Namespace) -> int:
    stages = Stages(Terminal(args.verbosity))
    session, variant = quantized(args, stages, needs_images=False)
    plan = session.backend.plan(variant)
    assert plan is not None, variant
    if args.json:
        show_json(plan.to_json())
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
        return stop_early(one_variant(args), wanted, args.verbosity)
    compiled, session, variant = _compiled(args, Stages(Terminal(args.verbosity)))
    args.output.mkdir(parents=True, exist_ok=True)
    paths = compiled.save(args.output / f"{session.model.name}.vta")
    files = lines_of(wanted.write(session.backend, variant))
    sizes = [f"{path}: {path.stat().st_size:,} bytes" for path in paths]
    folder = args.output / f"{session.model.name}{ARTEFACT_SUFFIX}"
    missing = compiled.save_artefact(folder)
    sizes.append(f"{folder}" + (f": {missing}" if missing else ""))
    layers = sum(layer.kind != SETUP for layer in compiled.layers)
    sizes[-2] += f", {layers} layers"
    show("\n".join(map(printable, sizes)), *files, kept=str(args.output))
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
    from flow.artefacts.load import is_artefact  # brings in TVM, which takes seconds to import

    if is_artefact(args.image[0]):
        return run_artefact(args)
    names = class_names(args.names)
    compiled, session, _ = _compiled(args, Stages(Terminal(args.verbosity)))
    model = session.model
    options = one_variant(args)
    data = image_files(
        args.image,
        picture_preprocessing(model, request_of(options.model, options.request)),
        shape=model.input_shape,
        file_shape=model.file_shape,
        inputs=model.inputs,
    )
    answers = answers_of(data, compiled.networks()[0], model.outputs, args.save)
    if args.json:
        show_json(answers.to_json(model.outputs, names, args.top))
    else:
        show(answers.table(model.outputs, names, args.top))
    return 0


def _verify(args: argparse.Namespace) -> int:
    if args.artefact is not None:
        return verify_artefact(args)
    stages = Stages(Terminal(args.verbosity))
    compiled, session, variant = _compiled(args, stages, needs_images=True)
    assert session.evaluation is not None
    images = session.evaluation.take(args.limit or EXACT_IMAGES, seed=args.seed)
    exact = verify(compiled, images, stages, variant, anew=True)
    if args.json:
        show_json(asdict(exact), kept="the exit code")
        return EXIT_MISMATCH if exact.mismatches else 0
    told = f"{exact.tensors:,} tensors of {exact.images:,} images"
    if exact.mismatches:
        show(f"{exact.mismatches:,} of {told} differ; first: {exact.first}", kept="the exit code")
        return EXIT_MISMATCH
    show(f"{told} compared, all equal", kept="the exit code")
    return 0
