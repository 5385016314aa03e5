"""vta_config.generated: files are written, or the first stale one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from vta_config.generated import write_or_check


def test_files_are_written_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [(tmp_path / name, f"text of {name}\n") for name in ("a.md", "b.md")]

    def run(*argv: str) -> tuple[int, str]:
        code = write_or_check("python -m make", "Write two files.", lambda: files, argv)
        return code, capsys.readouterr().err

    sentence = "must be up to date, got other text; run python -m make\n"
    assert run("--check") == (2, f"a.md: {sentence}")  # missing
    assert run() == (0, "") and run("--check") == (0, "")
    assert [path.read_text() for path, _ in files] == [text for _, text in files]
    files[1][0].write_text("another")
    assert run("--check") == (2, f"b.md: {sentence}")
