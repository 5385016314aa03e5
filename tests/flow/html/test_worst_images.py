"""The images with the largest errors."""

from __future__ import annotations

import pytest

from flow.html import worst_images
from flow.html.parts import Gallery, Lines
from flow.html.values import Missing, Values
from tests.flow.html.reports import HOSTILE, PNG, small_report


def test_answers_side_by_side() -> None:
    lines, gallery = worst_images.parts(Values(small_report()))
    assert isinstance(lines, Lines) and isinstance(gallery, Gallery)
    assert lines.lines == ["Another answer than float32: 1 of 40 images (2.50 %)."]
    first, second, third = gallery.figures
    assert first.title == "another answer" and second.title == "same answer"
    assert first.lines == [
        "true class: 3", "float32: 3 (right)", "integers: 5 (wrong)",
        "SQNR of its outputs: 12.5 dB", "a/cat.png",
    ]  # fmt: skip
    assert f"data:image/png;base64,{PNG}" in str(first.picture)
    assert HOSTILE not in str(second.picture) and "&lt;script&gt;" in str(second.picture)
    assert "no picture" in str(third.picture) and "<script>" not in str(third.picture)


def test_no_classes() -> None:
    report = small_report()
    own = report["details"]["worst_images"]
    own["differing"] = None
    for image in own["images"]:
        image |= {"label": None, "float_class": None, "integer_class": None, "sqnr_db": None}
    lines, gallery = worst_images.parts(Values(report))
    assert isinstance(lines, Lines) and not lines.lines and isinstance(gallery, Gallery)
    assert gallery.figures[0].title == "a/cat.png"
    assert gallery.figures[0].lines == ["SQNR of its outputs: exact"]
    own["images"] = []
    with pytest.raises(Missing, match="worst_images.images"):
        worst_images.parts(Values(report))
