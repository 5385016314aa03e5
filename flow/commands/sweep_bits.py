"""``sweep-bits``: the Pareto front of mixed precision."""

from __future__ import annotations

import argparse
from pathlib import Path

from flow.commands.arguments import json_option, options_of
from flow.commands.parsers import Commands
from flow.commands.terminal import Terminal, show, show_json
from flow.results.latency import can_plot
from flow.stages import Stages
from flow.system.arguments import positive
from flow.system.files import check_writable
from relay_passes.variants import MIXED
from vta_config.text import printable

#: Limits from the narrowest to the widest.
POINTS = 5


def add(commands: Commands) -> None:
    """Add ``sweep-bits``."""
    parser = commands.add(
        "sweep-bits",
        _sweep,
        "Choose bits layer by layer for each of several limits, and measure each network and the "
        "uniform ones; a sweep that was stopped goes on where it was.",
        commands.model,
        commands.learning,
        commands.images,
        commands.workers,
        commands.bits,
    )
    parser.add_argument(
        "--along",
        choices=("latency", "size", "bops"),
        help="what is limited (default: latency on a machine with 4-bit operands, size on others)",
    )
    parser.add_argument(
        "--points",
        type=positive,
        default=POINTS,
        metavar="N",
        help="limits, evenly from the narrowest to the widest (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("out/sweep"),
        help="where sweep.json and the pictures go (default: %(default)s)",
    )
    json_option(parser, "sweep.json")


def _sweep(args: argparse.Namespace) -> int:
    from flow.sweep_bits import SWEEP_FILE, draw, sweep, sweep_table

    check_writable(args.output)
    options = options_of(args, (MIXED,))
    found = sweep(
        options,
        Stages(Terminal(args.verbosity)),
        cost=args.along,
        count=args.points,
        folder=args.output,
    )
    lines = [*found.remarks, f"written    {args.output / SWEEP_FILE}"]
    try:
        lines += [f"           {path}" for path in draw(found, args.output)]
        if not can_plot():
            lines.append("           no plots: matplotlib is missing; install vta-flow[plot]")
    finally:
        if args.json:
            show_json(found.to_json(), kept=str(args.output))
        else:
            show(sweep_table(found), *map(printable, lines), kept=str(args.output))
    return 0
