"""The generated files are fresh, and staleness is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from vta_config import generate, isa
from vta_config.errors import ArtifactError


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


def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main(["--check"]) == 0
    monkeypatch.setattr(generate, "header", lambda: "other")
    assert generate.main(["--check"]) == 2
    assert "isa.gen.h: must be up to date" in capsys.readouterr().err
