"""vta_config.text: names from elsewhere, on a terminal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vta_config.errors import PART_CHARS, FlowError
from vta_config.text import NAME_CHARS, printable, shown_name


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("layer1.0.conv1", "layer1.0.conv1"),
        ("größe 大 🙂", "größe 大 🙂"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb\tc\x00", "a\\nb\\tc\\x00"),
        ("\x9b2J", "\\x9b2J"),
        ("a\u202eb\u2028", "a\\u202eb\\u2028"),
        ("\udcff", "\\udcff"),
        ("[bold]$x$", "[bold]$x$"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(), st.integers(0, 40))
def test_any_text_becomes_one_line(text: str, most: int) -> None:
    shown = printable(text, most)
    assert shown.isprintable() and len(shown.splitlines()) <= 1
    assert shown == text or not text.isprintable() or 0 < most < len(text)


def test_long_names_are_cut_in_their_middle() -> None:
    name = "a" * 5000 + "b" * 5000
    shown = shown_name(name)
    assert len(shown) == NAME_CHARS
    assert shown.startswith("aaaa") and shown.endswith("bbbb") and "a…b" in shown
    assert shown_name("a" * NAME_CHARS) == "a" * NAME_CHARS


def test_errors_show_names_so() -> None:
    error = FlowError("\x1b[2J", "must be short", got="x" * 10_000, hint="a\nb")
    assert str(error).startswith("\\x1b[2J: must be short, got xxx")
    assert str(error).endswith("xxx; a\\nb") and len(str(error)) < PART_CHARS + 50
    assert str(FlowError.from_sentence("insn 3: \x07")) == "insn 3: \\x07"
