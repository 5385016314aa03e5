"""The tutorial notebook runs as it is, and says what it said when its outputs were written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
TUTORIAL = ROOT / "docs" / "tutorial.ipynb"
nbformat = pytest.importorskip("nbformat", reason="the extra docs has it")


def printed(notebook: Any) -> list[str]:
    """Return what each cell of code has printed."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(output.get("text", "?") for output in cell.outputs) for cell in cells]


@pytest.mark.slow
def test_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient = pytest.importorskip("nbclient", reason="the extra docs has it")
    pytest.importorskip("ipykernel", reason="the extra docs has it")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(TUTORIAL, 4)
    before = printed(notebook)
    where = {"metadata": {"path": str(ROOT)}}
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    after = printed(notebook)

    def words(texts: list[str]) -> list[str]:  # numbers may differ a little: floats of this machine
        return [re.sub(r"-?[\d.,]+", "#", re.sub(r"\s+", " ", text)) for text in texts]

    assert words(after) == words(before)
    assert "tensors are equal" in after[-2] and after[-1] == "True\n"


def test_it_is_kept_small() -> None:
    assert TUTORIAL.stat().st_size < 20_000  # no pictures, no tracebacks
    notebook = nbformat.read(TUTORIAL, 4)
    assert all(printed(notebook)[1:])  # the first imports
