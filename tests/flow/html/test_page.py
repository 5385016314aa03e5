"""The page as a whole: well formed, safe, whole in itself; opened in a real browser."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flow.html.page import HTML_FILE, SECTIONS, page, read_report, write_page
from tests.flow.html.browser import Browser, browser
from tests.flow.html.checks import check
from tests.flow.html.reports import (
    HOSTILE,
    counted,
    histogram,
    layer,
    layer_facts,
    node,
    small_report,
    tensor,
)
from vta_config.errors import ArtifactError

#: Machines of tests may be so much slower than those that people have.
SLOWNESS = 2


def test_sections_of_a_small_report() -> None:
    found = check(page(small_report()))
    assert {wanted.anchor for wanted in SECTIONS if not wanted.only_with} <= set(found.ids)
    assert "Not shown" not in found.text
    for text in ("95.00 %", "0.018 ms", "1,800 cycles", "75.00 %", "all equal", "30.0 dB"):
        assert text in found.text, text


def test_names_are_text() -> None:
    text = page(small_report())
    assert HOSTILE not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    report = small_report()
    report["model"]["name"] = 'a"b\u202ec\ud800' + 200 * "x"
    found = check(page(report))
    assert found.text.startswith('a"b\\u202ec\\ud800xxx') and "x…x" in found.text[:80]


@pytest.mark.parametrize("key", sorted(small_report()))
def test_what_is_absent_or_null_is_said(key: str) -> None:
    for change in ({}, {key: None}):
        report = {k: v for k, v in small_report().items() if k != key} | change
        check(page(report))


def test_a_report_of_an_older_release() -> None:
    report = {
        k: v
        for k, v in small_report().items()
        if k not in ("tool", "date", "command", "options", "details")
    }
    for row in report["latency"]["layers"]:
        del row["path"]
    report["schema_version"] = 3
    found = check(page(report))
    assert "Not shown: the report holds no details; an older release wrote it." in found.text
    assert "The report does not hold the command: an older release wrote it." in found.text
    assert "1,800 cycles" in found.text


def test_nothing_but_the_version() -> None:
    found = check(page({"schema_version": 4}))
    always = [wanted for wanted in SECTIONS if not wanted.only_with]
    assert found.text.count("Not shown: the report holds no ") == 1 + len(always)
    assert "Not shown: the report holds no variants." in found.text


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("variants",), 3, "report.json: variants: must be a list, got 3; run vta-flow deploy"),
        (("variants",), [3], "report.json: variants: must be a list of objects, got 3"),
        (("latency",), "x", "report.json: latency: must be an object, got 'x'"),
        (("latency", "ms"), "x", "report.json: latency.ms: must be a number, got 'x'"),
        (("latency", "ms"), True, "report.json: latency.ms: must be a number, got True"),
        (("latency", "ms"), 1e300, r"report.json: latency.ms: must be within ±1e\+18, got 1e\+300"),
        (("latency", "partial"), 1, "report.json: latency.partial: must be true or false, got 1"),
        (("model", "name"), 1, "report.json: model.name: must be a text, got 1"),
        (("command",), [1], "report.json: command: must be a list of texts, got 1"),
    ],
)
def test_values_of_another_type(path: tuple[str, ...], value: object, sentence: str) -> None:
    report: dict[str, Any] = small_report()
    inner = report
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    with pytest.raises(ArtifactError, match=sentence):
        page(report)


def test_files_that_are_no_reports(tmp_path: Path) -> None:
    file = tmp_path / "report.json"
    for text, got in (
        (None, "No such file or directory"),
        ("{", "Expecting property name"),
        ("[]", "JSON without schema_version"),
        ("{}", "JSON without schema_version"),
        ('{"schema_version": NaN}', "the number NaN"),
        ("[" * 100_000, "maximum recursion depth|nested"),
    ):
        if text is not None:
            file.write_text(text)
        with pytest.raises(ArtifactError, match=f"must be a report of vta-flow, got .*{got}"):
            read_report(file)
    file.unlink()
    file.mkdir()
    with pytest.raises(ArtifactError, match="must be a report of vta-flow, got a folder"):
        read_report(file)


def test_the_file(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(small_report()))
    path = write_page(tmp_path)
    assert path == tmp_path / HTML_FILE
    assert path.read_text() == page(small_report())


# ---- in a browser --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with browser(tmp_path_factory.mktemp("browser")) as found:
        yield found


@pytest.mark.slow
def test_in_a_browser(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / HTML_FILE
    path.write_text(page(small_report()))
    pictures = []
    for width in (360, 1280):
        for dark in (False, True):
            chromium.open(path, width, dark=dark)
            assert chromium.ask("innerWidth") == width
            assert chromium.ask("document.documentElement.scrollWidth") == width
            outside = (
                "[...document.querySelectorAll('body *')].filter("
                "e => !e.closest('.scroll, .hidden') && "
                "e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML)"
            )
            assert chromium.ask(outside) == []
            assert chromium.ask("document.querySelectorAll('script').length") == 0
            picture = Image.open(io.BytesIO(chromium.picture())).convert("L")
            assert picture.width == width and len(set(picture.tobytes())) > 50
            pictures.append(picture.getpixel((2, 2)))
    assert min(pictures[0::2]) > 240 and max(pictures[1::2]) < 40  # type: ignore[operator,type-var]
    assert chromium.printed().startswith(b"%PDF-")
    assert chromium.complaints() == []


@pytest.mark.slow
def test_contrast(chromium: Browser, tmp_path: Path) -> None:
    """Text has a contrast of at least 4.5 on its ground, in light and in dark."""
    path = tmp_path / HTML_FILE
    path.write_text(page(small_report()))
    for dark in (False, True):
        chromium.open(path, 1280, dark=dark)
        colours = chromium.ask(_COLOURS)
        assert len(colours) > 100
        for ink, ground, text in colours:
            assert _contrast(ink, ground) >= 4.5, (ink, ground, text)


#: Of each element with text of its own: colour, colour of its ground, text.
_COLOURS = """[...document.querySelectorAll('body *')].filter(e => !e.closest('.hidden') &&
  [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && e.getClientRects().length
  && e.tagName !== 'title').map(e => {
    let style = getComputedStyle(e), at = e;
    let ground = getComputedStyle(at).backgroundColor;
    while (ground === 'rgba(0, 0, 0, 0)' && at.parentElement) {
      at = at.parentElement; ground = getComputedStyle(at).backgroundColor; }
    let ink = e.namespaceURI.endsWith('svg') ? style.fill : style.color;
    return [ink, ground, e.textContent.slice(0, 40)]; })"""


def _contrast(ink: str, ground: str) -> float:
    """Return the ratio of luminances of two colours (WCAG 2)."""
    lights = []
    for colour in (ink, ground):
        parts = [int(x) / 255 for x in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        lights.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(lights) + 0.05) / (min(lights) + 0.05)


# ---- deep networks -------------------------------------------------------------------------------
def deep_report(count: int) -> dict[str, Any]:
    """Return the report of a network of so many layers, each of which three later ones read."""
    report = small_report()
    names = [f"features.denseblock{k // 12}.denselayer{k}.conv" for k in range(count)]
    report["latency"]["layers"] = [layer(name, 900, 600, "gemm") for name in names]
    report["counters"]["layers"] = [counted(name, 400 + k) for k, name in enumerate(names)]
    report["variants"][-1]["layers"] = [layer_facts(n, n, 40 - k / 20) for k, n in enumerate(names)]
    inside = report["details"]
    inside["graph"] = {
        "nodes": [
            node(name, "conv2d", [names[j] for j in (k - 1, k - 2, k - 4) if j >= 0], name, False)
            for k, name in enumerate(names)
        ],
        "tensors": [tensor(name) for name in names],
        "outputs": names[-1:],
    }
    (memory,) = inside["memory"]
    memory["layers"] = names
    memory["regions"] = [
        dict(name=n, kind="activation", address=512 * (k % 5), size_bytes=512, first=k, last=k + 4)
        for k, n in enumerate(names)
    ]
    for pad in memory["scratchpads"]:
        pad["layer_bytes"] = [1000 + k for k in range(count)]
    histograms = {what: [histogram(n, -8, 8, [9] * 64) for n in names]
                  for what in ("activations", "weights")}  # fmt: skip
    return report | {"details": inside | {"histograms": histograms}}


@pytest.mark.slow
def test_deep_networks_stay_small_and_fast(chromium: Browser, tmp_path: Path) -> None:
    report = deep_report(430)
    begin = time.process_time()
    text = page(report)
    assert time.process_time() - begin < 2 * SLOWNESS
    assert len(text.encode()) < 5_000_000
    check(text)
    path = tmp_path / HTML_FILE
    path.write_text(text)
    for width in (360, 1280):
        chromium.open(path, width)
        assert chromium.ask("document.documentElement.scrollWidth") == width
        # Each picture has the size of its text, and scrolls in its own box.
        shown = "document.querySelector('svg.network').getBoundingClientRect()"
        assert chromium.ask(f"{shown}.height") > 430 * 60
        box = "document.querySelector('svg.network').closest('.scroll').clientHeight"
        assert chromium.ask(box) <= 900
    assert chromium.complaints() == []
