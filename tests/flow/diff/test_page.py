"""flow.diff.page: a page that needs nothing else and shows text as text."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from flow.diff.page import page
from flow.diff.rules import broken, parse_rules
from flow.diff.tables import NO_DIFFERENCE
from tests.flow.diff.reports import Report, diff_of, variant

#: Elements without an end.
_VOID = ("meta",)


class Reader(HTMLParser):
    """Checks that elements are closed in order; keeps the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_everything_that_differs_is_on_the_page(tmp_path: Path) -> None:
    def edit(value: Report) -> None:
        best = variant(value)
        best["latency"]["cycles"] = 2000
        best["layers"][0] |= {"sqnr_db": 12.25, "scale": 0.5}
        best["layers"].append(best["layers"][0] | {"name": "extra"})
        best["placement"]["fallbacks"] = []
        best["calibration"]["images"] = 3
        value["options"]["seed"] = 5
        value["plan"]["block"] = 8
        value["variants"].pop(1)

    diff = diff_of(edit, tmp_path)
    text = Reader(page(diff, broken(parse_rules(["cycles>+1%"]), diff))).text
    for part in (
        "(cycles>+1%)", "+766 (+62.07 %)", "options.seed", "SQNR (dB) by layer",
        "12.25", "-7.75", "scale by layer", "layers only in B: extra", "groups must be 1, got 2",
        "calibration.images", "plan.block: 16 → 8", "only in A: profiled",
    ):  # fmt: skip
        assert part in text, part


def test_identical_reports(tmp_path: Path) -> None:
    assert NO_DIFFERENCE in Reader(page(diff_of(lambda value: None, tmp_path))).text


def test_names_are_text_and_nothing_is_loaded(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>&\x1b"

    def edit(value: Report) -> None:
        variant(value)["layers"][0]["name"] = evil
        value["model"]["name"] = evil

    text = page(diff_of(edit, tmp_path))
    found = Reader(text)
    assert "script" not in found.tags and "<script>alert(1)</script>&\\x1b" in found.text
    assert not {"link", "img", "iframe"} & {*found.tags} and "://" not in text
