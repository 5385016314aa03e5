"""The generated files are fresh, and staleness is noticed."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from vta_config import generate, isa
from vta_config.config_words import WORDS
from vta_config.errors import ArtifactError
from vta_config.timing import TimingProfile


def test_generated_files_are_fresh() -> None:
    generate.check()


def test_stale_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(
        ArtifactError, match=r"isa.gen.h: must be up to date with .*; run python -m"
    ):
        generate.check(tmp_path)
    generate.write(tmp_path)
    generate.check(tmp_path)
    page = tmp_path / "docs" / "isa.md"
    page.write_text(page.read_text() + "\n")
    with pytest.raises(ArtifactError, match=r"isa.md: must be up to date"):
        generate.check(tmp_path)


def test_every_field_is_named() -> None:
    header, page = generate.header(), generate.page()
    for row in isa.FORMATS.values():
        for field in row.fields:
            assert f'{{"{field.name}", ' in header
            assert f"`{field.name}`" in page


def test_the_core_has_our_words_parameters_and_limits() -> None:
    header = generate.machine_header()
    words = [word.name for word in WORDS]
    table = re.findall(r'\{"(\w+)", (\d+)u, (\d+)u\}', header)
    assert [name for name, _, _ in table] == words and len(words) == 16
    assert ("log_block", "2", "7") in table and ("burst_beats", "2", "256") in table
    parameters = re.findall(r"  uint32_t (\w+) = (\d+);", header)
    defaults = TimingProfile()
    assert parameters == [(f.name, str(getattr(defaults, f.name))) for f in fields(TimingProfile)]
    assert "kMaxTokens = 255" in header and "kQueueInsns = 512" in header
    assert "kMul = 1;" in header and "kShrRegister = 4;" in header


def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main(["--check"]) == 0
    monkeypatch.setattr(generate, "header", lambda: "other")
    assert generate.main(["--check"]) == 2
    assert "isa.gen.h: must be up to date" in capsys.readouterr().err
