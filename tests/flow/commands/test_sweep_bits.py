"""The options of a sweep."""

from __future__ import annotations

from pathlib import Path

from flow.cli import build_parser


def test_options() -> None:
    args = build_parser().parse_args(["sweep-bits"])
    assert (args.along, args.points, args.output) == (None, 5, Path("out/sweep"))
    args = build_parser().parse_args(["sweep-bits", "--along", "size", "--points", "9"])
    assert (args.along, args.points) == ("size", 9)
