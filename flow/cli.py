"""The command line, ``vta-flow``: options in, progress bars and a table out.

`flow.commands` has the commands; `flow.system.process` the exit codes, and what becomes of errors
and signals.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from flow.commands import (
    artefacts,
    cache,
    completion,
    deploy,
    diff,
    distill,
    estimate,
    export,
    programs,
    report,
    sweep,
    sweep_bits,
)
from flow.commands.parsers import Commands
from flow.system import process


def build_parser(prog: str = "vta-flow") -> argparse.ArgumentParser:
    """Describe every subcommand and option."""
    commands = Commands(prog)
    for add in (
        deploy.add, programs.add_scales, programs.add, deploy.add_compare, sweep_bits.add,
        sweep.add, report.add, diff.add, distill.add, estimate.add, export.add, artefacts.add,
        cache.add, completion.add,
    ):  # fmt: skip
        add(commands)
    return commands.parser


def run(argv: Sequence[str] | None, prog: str, work: process.Work) -> int:
    """Run a subcommand; return the exit code, or raise."""
    args = build_parser(prog).parse_args(argv)
    args.command_line = (*prog.split(), *(sys.argv[1:] if argv is None else argv))
    if args.command not in ("disasm", "export", "trace"):  # which write a file
        work.folder = getattr(args, "output", None)
    code: int = args.run(args)
    return code


def main(argv: Sequence[str] | None = None, *, prog: str = "vta-flow") -> int:
    """Run a subcommand and return the exit code, in a process that does other things, too.

    `flow.__main__` is the program itself.
    """
    return process.run(prog, lambda work: run(argv, prog, work))
