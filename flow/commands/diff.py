"""``diff``: what changed between two reports."""

from __future__ import annotations

import argparse
from pathlib import Path

from flow.commands.parsers import Commands
from flow.commands.terminal import show, show_json
from flow.system.arguments import natural
from flow.system.files import write_atomic
from flow.system.process import EXIT_MISMATCH


def add(commands: Commands) -> None:
    """Add ``diff``."""
    parser = commands.add(
        "diff",
        _diff,
        "Show what changed between two reports: accuracy, latency, placement, layers, machine, "
        "versions and options. Dates and times are not compared. With --fail-on the exit code is "
        "1 if a change is too large.",
    )
    for name, which in (("old", "first"), ("new", "second")):
        parser.add_argument(
            name,
            metavar="A" if name == "old" else "B",
            help=f"{which} report: report.json or its folder; one variant of it: FOLDER:VARIANT",
        )
    parser.add_argument(
        "--fail-on",
        action="append",
        default=[],
        metavar="RULES",
        help="changes that are too large, for each variant: 'sqnr<-0.5, cycles>+1%%'; shares "
        "change in percentage points: 'top1<-0.2'. Also fails if B lacks a variant of A; "
        "repeatable",
    )
    parser.add_argument(
        "--layers",
        type=natural,
        metavar="N",
        help="show the N layers with the largest changes of a quantity (default: 8)",
    )
    parser.add_argument("--json", action="store_true", help="write everything to stdout as JSON")
    parser.add_argument("--html", type=Path, metavar="FILE", help="also write everything as a page")


def _diff(args: argparse.Namespace) -> int:
    from flow.diff.compare import compare
    from flow.diff.page import page
    from flow.diff.read import read_side
    from flow.diff.rules import broken, parse_rules
    from flow.diff.tables import MOST_LAYERS, render

    rules = parse_rules(args.fail_on)
    found = compare(read_side(args.old), read_side(args.new))
    failed = broken(rules, found)
    lines: list[str] = []
    if args.html is not None:
        write_atomic(args.html, page(found, failed).encode(errors="backslashreplace"))
        lines.append(f"written  {args.html}")
    if args.json:
        value = found.to_json() | {"failed": [own.to_json() for own in failed]}
        show_json(value, kept=str(args.html or ""))
    else:
        most = MOST_LAYERS if args.layers is None else args.layers
        show(render(found, failed, most=most), *lines, kept=str(args.html or ""))
    return EXIT_MISMATCH if failed else 0
