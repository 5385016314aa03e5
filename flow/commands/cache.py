"""``cache``: what is kept between runs, and how to remove it."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.table import Table

from flow.cache.folder import DOWNLOADS, KINDS, KindFacts, clear, look
from flow.cache.store import LIMIT_BYTES
from flow.commands.arguments import json_option
from flow.commands.parsers import Commands
from flow.commands.terminal import show, show_json
from flow.data.models import cache_folder
from vta_config.errors import ArtifactError
from vta_config.text import printable

_MB = 1e6


def add(commands: Commands) -> None:
    """Add ``cache``."""
    parser = commands.add(
        "cache",
        _cache,
        "Show what is kept between runs, or remove it. Results are removed by themselves, those "
        f"not used for the longest time first, when they take more than {LIMIT_BYTES / 2**30:.0f} "
        "GiB.",
    )
    parser.add_argument(
        "action",
        nargs="?",
        choices=("show", "clear"),
        default="show",
        help="show the number and size of files by kind, or remove all of them but downloads "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--kind",
        action="append",
        choices=tuple(KINDS),
        help="show or remove only this kind; repeatable",
    )
    parser.add_argument(
        "--cache", type=Path, metavar="DIR", help="the folder (default: the user's cache folder)"
    )
    json_option(parser, "the table")


def _cache(args: argparse.Namespace) -> int:
    folder = cache_folder(args.cache)
    found = [own for own in look(folder) if args.kind is None or own.kind in args.kind]
    if args.action == "clear":
        found = [own for own in found if own.kind != DOWNLOADS or args.kind is not None]
        removed, files = clear(found), sum(len(own.files) for own in found)
        if removed < files:
            raise ArtifactError(
                str(folder),
                "must be a folder whose files can be removed",
                got=f"{files - removed:,} of {files:,} files that cannot",
                hint="choose another --cache, or change its permissions",
            )
    if args.json:
        show_json({
            "folder": printable(str(folder)),
            "limit_bytes": LIMIT_BYTES,
            "removed": args.action == "clear",
            "kinds": [own.to_json() for own in found],
        })  # fmt: skip
        return 0
    line = f"folder  {printable(str(folder))}"
    if args.action == "clear":
        files = sum(len(own.files) for own in found)
        show(f"{files:,} files removed, {_size(found)}", line)
    else:
        show(_table(found) if found else "nothing is kept", line)
    return 0


def _table(found: list[KindFacts]) -> Table:
    table = Table(header_style="bold", show_footer=len(found) > 1)
    table.add_column("kind", "all")
    table.add_column("content")
    table.add_column("files", f"{sum(len(own.files) for own in found):,}", justify="right")
    table.add_column("size (MB)", _size(found).removesuffix(" MB"), justify="right")
    for own in found:
        about = KINDS.get(own.kind, "of another version")
        table.add_row(own.kind, about, f"{len(own.files):,}", f"{own.bytes_kept / _MB:,.2f}")
    return table


def _size(found: list[KindFacts]) -> str:
    return f"{sum(own.bytes_kept for own in found) / _MB:,.2f} MB"
