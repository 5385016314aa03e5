"""The parser of the command line, to which each command adds its own."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Final

from flow import __version__
from flow.commands.arguments import (
    bit_options,
    engine_options,
    image_options,
    learning_options,
    machine_options,
    model_options,
    output_options,
    source_options,
    worker_options,
)
from flow.system.arguments import HelpFormatter

EXIT_CODES: Final = (
    "exit codes: 0 success; 1 engines computed different integers, or a rule of diff --fail-on is "
    "broken; 2 the input cannot be used; "
    "3 internal error, with its traceback in a file; 130 interrupted, 143 terminated"
)


class Commands:
    """The subcommands so far.

    Parameters
    ----------
    prog : str
        The program's name.
    """

    def __init__(self, prog: str) -> None:
        """Start without any."""
        self.parser = argparse.ArgumentParser(
            prog=prog,
            description="Compile an ONNX CNN for the VTA accelerator with integers only; "
            "measure it.",
            epilog=EXIT_CODES,
        )
        self.parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
        self._commands = self.parser.add_subparsers(
            dest="command", required=True, metavar="SUBCOMMAND"
        )
        #: Options that several commands have.
        self.model, self.images, self.engine = model_options(), image_options(), engine_options()
        self.bits, self.source = bit_options(), source_options()
        self.learning, self.machine = learning_options(), machine_options()
        self.workers = worker_options()

    def add(
        self,
        name: str,
        run: Callable[[argparse.Namespace], int],
        about: str,
        *parents: argparse.ArgumentParser,
    ) -> argparse.ArgumentParser:
        """Add a command, with the options of `parents`; return its parser for more."""
        command = self._commands.add_parser(
            name,
            help=f"{about.partition('. ')[0].rstrip('.')}.",  # of several sentences the first
            description=about,
            epilog=EXIT_CODES,
            parents=[*parents, output_options()],
            formatter_class=HelpFormatter,
        )
        command.set_defaults(run=run)
        return command
