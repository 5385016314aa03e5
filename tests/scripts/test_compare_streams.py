"""The original compiler's convolutions: the same bytes, in fewer cycles of the same simulator."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from scripts import compare_streams
from scripts.compare_streams import Comparison, compare, read_dump, tables
from vta_config import VTAConfig
from vta_config.errors import ArtifactError
from vta_config.timing import PROFILES

DOCUMENT = Path(__file__).parents[2] / "docs" / "timing.md"
#: By how much our programs may become slower before the page must tell so.
SLOWER = 1.005


@pytest.fixture(scope="module")
def streams(shared_data: Path) -> Path:
    return shared_data / "golden" / "vta_streams"


@pytest.fixture(scope="module")
def found(streams: Path, default_config: VTAConfig) -> list[Comparison]:
    return compare(streams, default_config)


def test_same_bytes_in_fewer_cycles_of_every_profile(found: list[Comparison]) -> None:
    assert [c.name for c in found] == ["C2", "C5", "C11"]
    for c in found:
        assert c.original.exact and c.ours.exact, c.name
        assert set(c.ours.cycles) == set(PROFILES)
        for profile, cycles in c.original.cycles.items():
            assert c.ours.cycles[profile] < cycles, f"{c.name}, {profile}"
        assert c.original.counters["out_bytes"] == c.ours.counters["out_bytes"]


def test_the_documented_tables(found: list[Comparison]) -> None:
    page = DOCUMENT.read_text(encoding="utf-8")
    match = re.search(r"<!-- streams:begin -->\n(.*?)\n<!-- streams:end -->", page, re.DOTALL)
    assert match
    told, now = match[1].splitlines(), tables(found)
    assert len(told) == len(now)
    for old, new in zip(told, now, strict=True):
        was, gets = ([cell.strip() for cell in line.split("|")] for line in (old, new))
        assert was[:3] == gets[:3]
        if was[2:3] in [[profile] for profile in PROFILES]:
            assert was[3] == gets[3]
            assert int(gets[4].replace(",", "")) <= SLOWER * int(was[4].replace(",", "")), new
        elif was[2:3] == ["original"]:
            assert was == gets


def test_command(streams: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_streams.main([str(streams)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (
        lines[0]
        == "| layer | timing profile | original (cycles) | ours (cycles) | ours / original |"
    )
    assert len(lines) == 2 + 3 * len(PROFILES) + 1 + 2 + 6


def test_other_bytes_are_told(
    streams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(streams / "C11_io.npz", tmp_path)
    dump = bytearray((streams / "run_00000_C11.vtadump").read_bytes())
    dump[-1] ^= 1
    (tmp_path / "run_00000_C11.vtadump").write_bytes(dump)
    assert compare_streams.main([str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        "bytes differ from the original simulator's: C11, original\n"
    )


def test_what_is_no_dump(streams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare_streams.main([str(tmp_path)]) == 2
    assert "must hold run_*_NAME.vtadump files" in capsys.readouterr().err
    path = tmp_path / "run_00000_C11.vtadump"
    path.write_bytes(b"VTADUMP2")
    with pytest.raises(ArtifactError, match=r"must begin with VTADUMP1, got b'VTADUMP2'"):
        read_dump(path)
    dump = (streams / path.name).read_bytes()
    path.write_bytes(dump[:20])
    with pytest.raises(ArtifactError, match=r"C11.vtadump: must be whole, got 20 bytes"):
        read_dump(path)
    path.write_bytes(dump[:-1])
    with pytest.raises(ArtifactError, match=r"must be whole, got \d+ of \d+ bytes"):
        read_dump(path)
    path.write_bytes(dump)
    assert compare_streams.main([str(tmp_path)]) == 2
    assert "C11_io.npz: must be the tensors of a layer, got" in capsys.readouterr().err
