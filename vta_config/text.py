"""Text from elsewhere, such as a layer's name, made fit for a terminal."""

from __future__ import annotations

from typing import Final

#: Characters of a name that tables, traces and errors show.
NAME_CHARS: Final = 80
_ELLIPSIS: Final = "…"


def printable(text: str, most: int = 0) -> str:
    r"""Return `text` as one line that a terminal shows and does not obey.

    What is not printable (control characters, line feeds, marks that turn the direction of
    writing, halves of surrogate pairs) is written as Python does: ``\x1b``, ``\n``, ``\u202e``.

    Parameters
    ----------
    text : str
        Any text.
    most : int
        Characters to show; of more, the beginning and the end. 0: all.
    """
    if most and len(text) > most:
        # The parts that remain are escaped, not all of it: a name may be of any length.
        tail = most // 3
        return _escaped(text[: most - tail - 1]) + _ELLIPSIS + _escaped(text[len(text) - tail :])
    return _escaped(text)


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown_name(name: str) -> str:
    """Return a name as tables, traces and errors show it: one line, at most `NAME_CHARS` of it."""
    return printable(name, NAME_CHARS)
