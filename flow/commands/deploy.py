"""``deploy``, ``evaluate`` and ``compare``: what measures variants."""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

from flow import deploy as jobs
from flow.commands.arguments import chosen_by, json_option, options_of, variants_option
from flow.commands.explain import check_layer, explain_option, explained
from flow.commands.parsers import Commands
from flow.commands.report import page_line
from flow.commands.terminal import Terminal, show, show_json
from flow.options import EXACT_IMAGES, OTHERS_EXACT_IMAGES, Options
from flow.results.latency import can_plot
from flow.results.report import (
    Report,
    Skipped,
    latency_table,
    layers_table,
    render,
    write_report,
)
from flow.show_stages import Wanted, lines_of, stop
from flow.show_stages import add_options as add_stage_options
from flow.stages import Stages
from flow.system import process
from flow.system.arguments import natural
from flow.system.files import check_writable
from flow.system.process import EXIT_BAD_INPUT, EXIT_MISMATCH
from vta_config.errors import FlowError

#: In the output folder: what can be deployed of the variant that is deployed.
ARTEFACT_FOLDER: Final = "artefact"


def add(commands: Commands) -> None:
    """Add ``deploy`` and ``evaluate``."""
    parser = commands.add(
        "deploy",
        _deploy,
        "Run the whole flow: quantize every variant, compile, run, verify, report.",
        commands.model,
        commands.learning,
        commands.images,
        commands.engine,
        commands.bits,
        commands.workers,
    )
    variants_option(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("out/deploy"),
        help="output folder for report.html, report.json, layers.csv, the trace, the plots, and "
        "artefact/ with all that runs the deployed variant (default: %(default)s)",
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
    explain_option(parser)
    json_option(parser)
    add_stage_options(parser)
    evaluate = commands.add(
        "evaluate",
        _evaluate,
        "Compare the accuracy of variants with float32, without verifying engines.",
        commands.model,
        commands.learning,
        commands.images,
        commands.engine,
        commands.bits,
        commands.workers,
    )
    variants_option(evaluate)
    evaluate.add_argument("--output", type=Path, metavar="DIR", help="also write DIR/report.json")
    json_option(evaluate)


def add_compare(commands: Commands) -> None:
    """Add ``compare``."""
    compare = commands.add(
        "compare",
        _compare,
        "Measure each step from stock Relay to best.",
        commands.model,
        commands.learning,
        commands.images,
        commands.workers,
    )
    compare.add_argument(
        "--step",
        action="append",
        metavar="NAME",
        help="step to measure; repeatable (default: all that are calibrated on real images)",
    )
    compare.add_argument("--output", type=Path, metavar="DIR", default=Path("out/compare"))
    json_option(compare, "compare.json")


def _deploy(args: argparse.Namespace) -> int:
    check_layer(args.explain, "vta-flow deploy --model")
    check_writable(args.output)
    wanted = Wanted.of_options(args)
    options = options_of(args, chosen_by(args), args.exact_images)
    if wanted.stops:
        return stop_early(options, wanted, args.verbosity)
    written: list[Path] = []
    stages = Stages(Terminal(args.verbosity))
    report, compiled = jobs.deploy(
        options,
        stages,
        folder=args.output,
        show=(lambda *of: written.extend(wanted.write(*of))) if wanted.names else None,
        command=args.command_line,
    )
    problem: FlowError | None = None
    if args.explain is not None:
        try:
            explanation = compiled.explain(stages, args.explain)
        except FlowError as error:  # what was measured is written first
            problem = error
        else:
            seconds = dict(stages.seconds)
            report = replace(report, explanation=explanation, seconds=seconds)
    tables = [render(report)]
    if args.layers:
        tables += [layers_table(report), latency_table(report)]
    if report.explanation is not None:
        tables += explained(report.explanation)
    lines = lines_of(written)
    try:
        path = write_report(report, args.output)
        lines += [f"report     {path}", page_line(args.output)]
        missing = compiled.save_artefact(args.output / ARTEFACT_FOLDER)
        note = f" ({missing})" if missing else ""
        lines.append(f"artefact   {args.output / ARTEFACT_FOLDER}{note}")
        if report.latency is not None:
            lines.append(f"timing     {', '.join(p.name for p in compiled.draw(args.output))}")
            if not can_plot():
                lines.append("           no plots: matplotlib is missing; install vta-flow[plot]")
    finally:  # what was measured is worth showing also where a file cannot be written
        if args.json:
            show_json(report.to_json(), kept=str(args.output))
        else:
            show(*tables, *lines, kept=str(args.output))
    if problem is not None:
        raise problem
    return _exit_code(report)


def _evaluate(args: argparse.Namespace) -> int:
    if args.output is not None:
        check_writable(args.output)
    options = options_of(args, chosen_by(args))
    report, _ = jobs.deploy(
        options, Stages(Terminal(args.verbosity)), folder=args.output, command=args.command_line
    )
    try:
        if args.output is not None:
            write_report(report, args.output)
    finally:
        if args.json:
            show_json(report.to_json(), kept=str(args.output or ""))
        else:
            show(render(report), kept=str(args.output or ""))
    return _exit_code(report)


def _exit_code(report: Report) -> int:
    if report.stopped:
        process.complain(f"stopped: {report.stopped}")
        return EXIT_BAD_INPUT
    return EXIT_MISMATCH if report.mismatches else 0


def _compare(args: argparse.Namespace) -> int:
    from flow.compare import USUAL_STEPS, compare, render_steps, write_steps

    check_writable(args.output)
    options, skipped = options_of(args, tuple(args.step or USUAL_STEPS)), list[Skipped]()
    steps = compare(options, Stages(Terminal(args.verbosity)), folder=args.output, skipped=skipped)
    lines = [f"skipped    {step.variant}: {step.reason}" for step in skipped]
    try:
        lines += [str(path) for path in write_steps(steps, args.output)]
    finally:
        if args.json:
            show_json([asdict(step) for step in steps], kept=str(args.output))
        else:
            show(render_steps(steps), *lines, kept=str(args.output))
    return 0


def stop_early(options: Options, wanted: Wanted, verbosity: int = 0) -> int:
    """Run the stages that are wanted, write what they make, and return the exit code."""
    show(*lines_of(stop(options, wanted, Stages(Terminal(verbosity)))), kept=str(wanted.folder))
    return 0
