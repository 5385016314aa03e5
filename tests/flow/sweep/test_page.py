"""The page of a sweep: one file, every machine, every reason."""

from __future__ import annotations

from html.parser import HTMLParser

from flow.sweep.costs import CONSTANTS_FILE, sources
from flow.sweep.page import page
from flow.sweep.where import parse
from tests.flow.sweep.sweeps import sweep


class _Checker(HTMLParser):
    """Collects elements; a tag that is not closed in order is a fault."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.anchors: set[str] = set()
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        found = dict(attrs)
        if "id" in found:
            self.anchors.add(str(found["id"]))
        if str(found.get("href", "")).startswith("#"):
            self.links.add(str(found["href"])[1:])
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def checked(text: str) -> _Checker:
    checker = _Checker()
    checker.feed(text)
    assert not checker.open
    assert checker.links <= checker.anchors
    assert "script" not in checker.tags and "link" not in checker.tags
    return checker


def test_the_page() -> None:
    text = page(sweep("net", "<i>net"), sources(CONSTANTS_FILE))
    found = checked(text)
    assert {
        "model-1",
        "model-2",
        "choices",
        "machines",
        "failed",
        "costs",
        "space",
    } <= found.anchors
    assert "&lt;i&gt;net" in text and "<i>net" not in text
    assert text.count("bus 64 → 128") >= 4
    assert "must fit 128 bits" in text and "the time was over" in text
    assert "ISSCC 2014" in text and "8.0 KiB: 10, 32.0 KiB: 20" in text
    assert "on the front" in text and "7 of 8 rows measured." in text


def test_without_failures_or_pairs() -> None:
    found = sweep(accuracy=False, holds=[parse("latency < 12ms")])
    rows = tuple(row for row in found.rows if row.state in ("measured", "outside"))[:1]
    from dataclasses import replace

    text = page(replace(found, rows=rows, effects=()), {})
    assert "failed" not in checked(text).anchors
    assert "No two machines differ in one choice alone." in text
    assert "outside a constraint" in text and "latency &lt; 12ms" in text
