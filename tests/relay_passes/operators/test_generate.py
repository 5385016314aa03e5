"""The page of operators says what the table says."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay_passes.operators import generate
from relay_passes.operators.calls import ACTIVATIONS
from relay_passes.operators.post_ops import POST_OPS
from relay_passes.operators.table import OPERATORS


def test_page_has_every_operator_and_sentence() -> None:
    page = generate.page()
    for row in OPERATORS.values():
        names = ", ".join(f"`{name}`" for name in row.float_ops)
        assert f"| {row.title} | {names} | `{row.kind}` | {row.how} |" in page
        for rule in row.rules:
            assert f"- {(rule.__doc__ or '').splitlines()[0]}\n" in page
    for name, activation in ACTIVATIONS.items():
        assert f"`{name}` ({activation.title})" in page
    for post_op in POST_OPS.values():
        assert f"| `{post_op.name}` | {post_op.equation} | {post_op.operand} |" in page


def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main(["--check"]) == 0
    monkeypatch.setattr(generate, "PAGE", tmp_path / "operators.md")
    assert generate.main(["--check"]) == 2
    assert "operators.md: must be up to date" in capsys.readouterr().err
    assert generate.main([]) == 0 == generate.main(["--check"])
