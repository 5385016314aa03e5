"""``report``: the page of a deployment again, from its report.json."""

from __future__ import annotations

import argparse
from pathlib import Path

from flow.commands.parsers import Commands
from flow.commands.terminal import show
from flow.system.tracebacks import internal_error
from vta_config.errors import FlowError
from vta_config.text import printable


def add(commands: Commands) -> None:
    """Add ``report``."""
    parser = commands.add(
        "report",
        _report,
        "Write DIR/report.html again, from DIR/report.json alone. Deploy writes it, too.",
    )
    parser.add_argument(
        "folder", type=Path, metavar="DIR", help="output folder of deploy or evaluate"
    )


def _report(args: argparse.Namespace) -> int:
    from flow.html.page import write_page  # brings in jinja2, which takes time to import

    show(_line(write_page(args.folder)), kept=str(args.folder))
    return 0


def page_line(folder: Path) -> str:
    """Write the page of a deployment; return the line that names it.

    An error that nobody expected is told in its place: the numbers are in report.json.

    Raises
    ------
    FlowError
        When the file cannot be written.
    """
    from flow.html.page import write_page  # brings in jinja2, which takes time to import

    try:
        return _line(write_page(folder))
    except FlowError:
        raise
    except Exception as error:
        return f"page       {internal_error(error, folder, where='report.html')}"


def _line(path: Path) -> str:
    return f"page       {printable(str(path))}"
