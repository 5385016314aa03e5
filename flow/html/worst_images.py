"""The images with the largest errors, with the answers of float32 and of the integers."""

from __future__ import annotations

import re
from typing import Final

from markupsafe import Markup

from flow.html import texts
from flow.html.details import of_details
from flow.html.parts import Figure, Gallery, Lines, Part
from flow.html.values import Missing, Values
from vta_config.text import printable

#: A PNG file in base64, and nothing else.
_PNG: Final = re.compile(r"iVBORw0KGgo[A-Za-z0-9+/]*={0,2}")
_NAME_CHARS: Final = 60


def parts(report: Values) -> list[Part]:
    """Return the images side by side.

    Raises
    ------
    Missing
        When the report does not hold them.
    """
    found = of_details(report, "worst_images").part("worst_images")
    images, evaluated = found.parts("images"), found.number("evaluated")
    if not images:
        raise Missing("details.worst_images.images")
    differing = found.maybe_number("differing")
    lines = []
    if differing is not None:
        share = texts.percent(differing / evaluated if evaluated else None)
        lines.append(
            f"Another answer than float32: {texts.count(differing)} of "
            f"{texts.plural(evaluated, 'image')} ({share} %)."
        )
    return [Lines(lines), Gallery([_figure(image) for image in images])]


def _figure(image: Values) -> Figure:
    name = printable(image.text("name"), _NAME_CHARS)
    label, integer = image.maybe_number("label"), image.maybe_number("integer_class")
    float_class = image.maybe_number("float_class")
    lines = []
    title = name
    if float_class is not None and integer is not None:
        title = "same answer" if float_class == integer else "another answer"
        lines = [
            *([] if label is None else [f"true class: {label:g}"]),
            f"float32: {float_class:g}{_mark(float_class, label)}",
            f"integers: {integer:g}{_mark(integer, label)}",
        ]
    sqnr = image.maybe_number("sqnr_db")
    lines.append(f"SQNR of its outputs: {'exact' if sqnr is None else texts.decibels(sqnr)}")
    if title != name:
        lines.append(name)
    return Figure(picture=_picture(image.maybe_text("png") or "", name), title=title, lines=lines)


def _mark(answer: float, label: float | None) -> str:
    return "" if label is None else " (right)" if answer == label else " (wrong)"


def _picture(png: str, name: str) -> Markup:
    if not _PNG.fullmatch(png):
        return Markup('<p class="none">no picture</p>')
    return Markup('<img alt="{}" src="data:image/png;base64,{}">').format(f"Input: {name}", png)
