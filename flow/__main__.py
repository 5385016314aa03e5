"""The program ``vta-flow``, also ``python -m flow``: the command line in a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from flow.system import process


def main(argv: Sequence[str] | None = None, *, prog: str = "vta-flow") -> int:
    """Run a subcommand and return the exit code; signals end the process from here on."""
    process.open_streams()
    process.take_over(prog)

    def command(work: process.Work) -> int:
        from flow import cli  # brings in TVM and more, which take seconds to import

        return cli.run(argv, prog, work)

    try:
        return process.run(prog, command)
    finally:
        process.settle()


if __name__ == "__main__":
    sys.exit(main(prog="python -m flow"))
