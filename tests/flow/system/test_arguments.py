"""Numbers on the command line, and lists in its help."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import pytest

from flow.system.arguments import HelpFormatter, add_list, factor, natural, positive, seconds


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [(positive, "1", 1), (natural, "0", 0), (seconds, "0.5", 0.5), (factor, "2", 2.0)],
)
def test_numbers(kind: Callable[[str], float], text: str, value: float) -> None:
    assert kind(text) == value


@pytest.mark.parametrize(
    ("kind", "texts", "words"),
    [
        (positive, ("0", "-1", "1.5", "x"), "a positive integer"),
        (natural, ("-1", "x"), "0 or a positive integer"),
        (seconds, ("0", "-1", "inf", "nan", "x"), "a positive number of seconds"),
        (factor, ("0", "1e6", "nan", "x"), "a number above 0, below 1e6"),
    ],
)
def test_what_is_none(kind: Callable[[str], float], texts: tuple[str, ...], words: str) -> None:
    for text in texts:
        with pytest.raises(argparse.ArgumentTypeError, match=f"^must be {words}, got {text}$"):
            kind(text)


def test_help_with_paragraphs_and_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    parser = argparse.ArgumentParser(
        "p", description="a " * 60, epilog="the\nend", formatter_class=HelpFormatter
    )
    add_list(parser, "names", {"one": "a word " * 20, "eleven": "short"})
    text = parser.format_help()
    assert text.endswith("  eleven  short\n\nthe end\n")
    assert "names:\n  one     a word a word" in text
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "          a word" in lines[lines.index("names:") + 2]
