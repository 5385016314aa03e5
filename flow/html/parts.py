"""What sections of the page are made of; ``report.html.j2`` says how each part looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from markupsafe import Markup


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One headline number.

    Parameters
    ----------
    name, value, note : str
        What it is, the number with its unit, and what it is compared with.
    state : {"", "good", "bad"}
        Whether it says that all is well or not.
    """

    name: str
    value: str
    note: str = ""
    state: Literal["", "good", "bad"] = ""


@dataclass(frozen=True, slots=True)
class Tiles:
    """Headline numbers side by side."""

    tiles: Sequence[Tile]
    kind: ClassVar[str] = "tiles"


@dataclass(frozen=True, slots=True)
class Lines:
    """Paragraphs of text."""

    lines: Sequence[str]
    kind: ClassVar[str] = "lines"


@dataclass(frozen=True, slots=True)
class Alert:
    """A sentence that must be seen."""

    text: str
    kind: ClassVar[str] = "alert"


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values, one pair a line."""

    facts: Sequence[tuple[str, str | Markup]]
    kind: ClassVar[str] = "facts"


@dataclass(frozen=True, slots=True)
class Code:
    """Text in a font of one width, in a box that scrolls sideways."""

    label: str
    text: str
    kind: ClassVar[str] = "code"


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    heading : str
        The quantity and its unit.
    numeric : bool
        Whether its cells stand on the right.
    bars : bool
        Whether its cells are bars, which want room.
    wide : bool
        Whether its cells are sentences.
    """

    heading: str
    numeric: bool = True
    bars: bool = False
    wide: bool = False

    @property
    def style(self) -> str:
        """The class of its cells."""
        return "number" if self.numeric else "bars" if self.bars else "text" if self.wide else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under headings; the first cell of a row is its heading.

    Parameters
    ----------
    label : str
        What the table shows.
    columns : sequence of Column
    rows : sequence of sequence of str or Markup
    marked : int, optional
        The row that is set off.
    folded : str
        Shown in place of the table until it is opened; "" for one that is open.
    """

    label: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str | Markup]]
    marked: int | None = None
    folded: str = ""
    kind: ClassVar[str] = "table"

    @property
    def long(self) -> bool:
        """Whether it has so many rows that it gets a box to scroll in."""
        return len(self.rows) > 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture in two shapes, of which the page shows the one that fits.

    Parameters
    ----------
    wide, narrow : Markup
        SVG for a screen, and for a phone.
    """

    wide: Markup
    narrow: Markup


@dataclass(frozen=True, slots=True)
class Charts:
    """Charts side by side where there is room."""

    charts: Sequence[Chart]
    kind: ClassVar[str] = "charts"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawing:
    """A picture of its own size, in a box that scrolls both ways."""

    label: str
    svg: Markup
    caption: str = ""
    kind: ClassVar[str] = "drawing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A row of a legend: the class that colours the patch, and what it means."""

    colour: str
    text: str


@dataclass(frozen=True, slots=True)
class Legend:
    """What colours and lines mean, in words."""

    entries: Sequence[Entry]
    kind: ClassVar[str] = "legend"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A small picture with text below it.

    Parameters
    ----------
    picture : Markup
        SVG, or an ``img`` element.
    title : str
    lines : sequence of str
    """

    picture: Markup
    title: str
    lines: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading within a section."""

    text: str
    kind: ClassVar[str] = "heading"


@dataclass(frozen=True, slots=True)
class Gallery:
    """Small pictures side by side; with `folded`, that text until it is opened."""

    figures: Sequence[Figure]
    folded: str = ""
    kind: ClassVar[str] = "gallery"


Part = Tiles | Lines | Alert | Facts | Code | Table | Charts | Drawing | Legend | Heading | Gallery


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A section of the page.

    Parameters
    ----------
    anchor : str
        Its place in the page, for links.
    title : str
    about : str
        What it shows and how to read it.
    parts : sequence of Part
    """

    anchor: str
    title: str
    about: str
    parts: Sequence[Part]
