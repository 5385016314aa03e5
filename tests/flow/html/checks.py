"""Is a page well formed? Checks with the parser of the standard library."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise

#: Elements that have no end tag.
VOID = frozenset({"meta", "br", "img", "link", "hr", "input"})


class Checker(HTMLParser):
    """Collects what is wrong with a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        if len(set(names)) < len(names):
            self.wrong.append(f"an attribute twice in {tag}")
        told = dict(attrs)
        self.tags.append((tag, told))
        if tag not in VOID:
            self.open.append(tag)
        if (own := told.get("id")) is not None:
            self.ids.append(own)
        if (target := told.get("href")) is not None:
            self.links.append(target)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1] != tag:
            self.wrong.append(f"line {self.getpos()[0]}: </{tag}> within {self.open[-3:]}")
        else:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def check(page: str) -> Checker:
    """Parse a page; fail unless it is well formed, whole in itself and accessible."""
    checker = Checker()
    checker.feed(page)
    checker.close()
    assert not checker.wrong and not checker.open
    assert len(set(checker.ids)) == len(checker.ids)
    assert all(link[:1] == "#" and link[1:] in checker.ids for link in checker.links)
    for tag, told in checker.tags:
        assert tag not in ("script", "link", "iframe", "object", "base"), tag
        assert not any(name.startswith("on") for name in told), told
        for name in ("src", "xlink:href"):
            assert (told.get(name) or "data:").startswith("data:"), told
        if tag == "svg":
            assert told.get("aria-label") or told.get("aria-hidden") == "true", told
        if tag == "img":
            assert told.get("alt"), told
        if tag == "th":
            assert told.get("scope") in ("col", "row"), told
        if told.get("role") == "region":
            assert told.get("aria-label"), told
    levels = [
        int(tag[1])
        for tag, _ in checker.tags
        if len(tag) == 2 and tag[0] == "h" and tag[1:].isdigit()
    ]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    return checker
