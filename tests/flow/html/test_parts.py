"""Parts of sections: each kind has its markup."""

from __future__ import annotations

from typing import get_args

import flow.html.parts as kinds
from flow.html.render import TEMPLATES


def test_each_kind_has_markup() -> None:
    template = (TEMPLATES / "parts.html.j2").read_text()
    for kind in get_args(kinds.Part):
        assert f'part.kind == "{kind.kind}"' in template, kind


def test_long_tables() -> None:
    column = kinds.Column(heading="x")
    for rows, long in ((30, False), (31, True)):
        table = kinds.Table(label="t", columns=[column], rows=[["1"]] * rows)
        assert table.long is long
