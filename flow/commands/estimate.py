"""``estimate``: what a network costs on a machine, without images."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from flow.commands.arguments import add_variant_list, options_of
from flow.commands.explain import check_layer, explain_option
from flow.commands.parsers import Commands
from flow.commands.terminal import Terminal, show, show_json, to_stdout
from flow.options import ESTIMATED_VARIANT, KNOWN_VARIANTS
from flow.stages import Stages
from flow.system.files import check_writable
from relay_passes.variants import KEEP, MIXED, ZERO_SHOT_OF
from vta_config.errors import ConfigError

#: Variants that neither choose bits by what was measured, nor distill images.
_VARIANTS = tuple(v for v in KNOWN_VARIANTS if v != MIXED and v not in ZERO_SHOT_OF)


def add(commands: Commands) -> None:
    """Add ``estimate``."""
    parser = commands.add(
        "estimate",
        _estimate,
        "Show what a network costs on a machine, without images: cycles, frames per second, "
        "memory, operators on the host. The network is quantized on random tensors, and the "
        "cycles are those of the cycle-level simulator for the program that this gives. A "
        "deployment differs in shifts and constants, so that its cycles may differ a little.",
        commands.machine,
    )
    parser.add_argument(
        "model",
        nargs="?",
        default=argparse.SUPPRESS,
        metavar="MODEL",
        help="the same as --model",
    )
    parser.add_argument(
        "--variant",
        choices=_VARIANTS,
        metavar="NAME",
        help="quantization variant, of those listed below; those that learn take long (default: "
        f"{ESTIMATED_VARIANT}, or {KEEP} for a model that is quantized already)",
    )
    add_variant_list(parser, _VARIANTS)
    parser.add_argument(
        "--format",
        choices=("table", "csv", "json"),
        default="table",
        help="what is written to stdout; CSV has a line for each layer (default: %(default)s)",
    )
    parser.add_argument(
        "--json",
        dest="format",
        action="store_const",
        const="json",
        help="the same as --format json",
    )
    explain_option(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="also write DIR/estimate.json and DIR/estimate.csv, with --explain DIR/explain.json",
    )


def _estimate(args: argparse.Namespace) -> int:
    if args.explain is not None:
        return _explain(args)
    from flow.estimate import estimate  # brings in TVM, which takes seconds to import
    from flow.results.estimate import csv_text, json_text, render, write_estimate

    if args.output is not None:
        check_writable(args.output)
    found = estimate(options_of(args, None), Stages(Terminal(args.verbosity)), args.variant)
    lines: list[str] = []
    try:
        if args.output is not None:
            lines = [f"written      {path}" for path in write_estimate(found, args.output)]
    finally:
        if args.format == "table":
            show(render(found), *lines, kept=str(args.output or ""))
        else:
            with to_stdout():
                sys.stdout.write({"csv": csv_text, "json": json_text}[args.format](found))
    return 0


def _explain(args: argparse.Namespace) -> int:
    """Estimate, and show why rather than how much."""
    check_layer(args.explain, "vta-flow estimate")
    if args.format == "csv":
        raise ConfigError(
            "--explain",
            "must be shown as a table or as JSON",
            got="--format csv",
            hint="leave --format out, or give --json",
        )
    from flow.estimate import estimated  # brings in TVM, which takes seconds to import
    from flow.explain.explain import explain_network
    from flow.explain.render import render, write_explanation
    from flow.results.estimate import write_estimate

    if args.output is not None:
        check_writable(args.output)
    stages = Stages(Terminal(args.verbosity))
    estimate, compiled = estimated(options_of(args, None), stages, args.variant)
    found = explain_network(compiled, stages, args.explain)
    lines: list[str] = []
    try:
        if args.output is not None:
            paths = [*write_estimate(estimate, args.output), write_explanation(found, args.output)]
            lines = [f"written      {path}" for path in paths]
    finally:
        if args.format == "json":
            show_json(found.to_json(), kept=str(args.output or ""))
        else:
            show(render(found), *lines, kept=str(args.output or ""))
    return 0
