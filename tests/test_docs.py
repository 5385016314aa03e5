"""What the documentation states about numbers and files is compared with the code."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest

from flow.data.downloads import SLOWEST_BYTES_PER_S, TIMEOUT_S
from flow.data.labels import IMAGE_SUFFIXES
from flow.data.pictures import FORMATS, MAX_COSTLY_PIXELS, MAX_PIXELS
from relay_passes import numerics
from vta_config import VTAConfig, preset_names

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def rows(page: str) -> list[list[str]]:
    """Return the cells of every table row of a page."""
    lines = (DOCS / page).read_text(encoding="utf-8").splitlines()
    return [[c.strip() for c in line.strip("|").split("|")] for line in lines if line[:1] == "|"]


def number(text: str) -> Fraction:
    return Fraction(text.replace("−", "-"))


def half_away(x: Fraction) -> int:
    return int(math.copysign(math.floor(abs(x) + Fraction(1, 2)), x))


ROUNDINGS: dict[str, Callable[[Fraction], int]] = {
    "HALF_UP": lambda x: math.floor(x + Fraction(1, 2)),
    "HALF_EVEN": round,
    "HALF_AWAY": half_away,
    "FLOOR": math.floor,
    "TRUNCATE": math.trunc,
}


def test_rounding_table() -> None:
    table = {row[0].split()[0].rstrip(":"): row[1:] for row in rows("numerics.md") if row[0]}
    halves = [number(cell) for cell in table["x"]]
    assert halves == [Fraction(k, 2) for k in (-5, -3, -1, 1, 3, 5)]
    for name, rounding in ROUNDINGS.items():
        assert [number(cell) for cell in table[name]] == [rounding(x) for x in halves], name
    ours = numerics.round_half_up([float(x) for x in halves])
    assert [number(cell) for cell in table["HALF_UP"]] == ours.tolist()


def test_requantize_table() -> None:
    examples = [
        row for row in rows("numerics.md") if row[0].startswith(("rounds", "half,", "clip"))
    ]
    assert len(examples) == 5
    for _, acc, shift, expected in examples:
        q = numerics.requantize(int(number(acc)), int(shift), -127, 127)
        assert int(q) == number(expected), acc


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted(DOCS.glob("*.md"))], ids=lambda p: p.name
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    assert all(f"({p.name})" in index for p in DOCS.glob("*.md") if p.name != "README.md")


def test_preset_table() -> None:
    table = {row[0]: row[1:] for row in rows("machine.md") if len(row) == 9}
    for name in preset_names():
        config = VTAConfig.load(name)
        kib = [
            f"{1 << getattr(config, f'log_{m}_buff_bytes') >> 10} KiB"
            for m in ("uop", "inp", "wgt", "acc")
        ]
        clock, bus = f"{config.clock_hz / 1e6:.0f} MHz", f"{config.bus_bits} bit"
        bursts = f"{config.burst_beats} beats"
        assert table[name] == [f"{config.batch} × {config.block}", *kib, clock, bus, bursts]


@pytest.mark.parametrize(
    "page", [*sorted(DOCS.glob("*.md")), ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name
)
def test_modules_that_are_named_exist(page: Path) -> None:
    names = re.findall(
        r"`((?:vta_config|relay_passes|flow|scripts|tests)/[\w/.]*)`", page.read_text()
    )
    assert all((ROOT / name).exists() for name in names), names


def test_limits_of_images_and_downloads() -> None:
    page = (DOCS / "images.md").read_text(encoding="utf-8")
    (suffixes,) = re.findall(r"with the suffix (.*), in upper or lower case", page)
    assert set(re.findall(r"\.\w+", suffixes)) == IMAGE_SUFFIXES
    (kinds,) = re.findall(r"A file may hold (.*) data", page)
    assert {kind.upper() for kind in re.findall(r"\w+", kinds) if kind != "or"} == set(FORMATS)
    assert f"at most {MAX_PIXELS:,} pixels (8192 × 8192)" in page and MAX_PIXELS == 8192 * 8192
    assert f"; {MAX_COSTLY_PIXELS:,}\nif decoding" in page
    assert f"silent for {TIMEOUT_S} s" in page
    assert f"{SLOWEST_BYTES_PER_S // 1000} kB/s" in page
