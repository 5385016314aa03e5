"""fsim against PyTorch, both held to AVX2: rows, and why there are none."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from scripts import bench_torch


def rows_of(monkeypatch: pytest.MonkeyPatch, **done: Any) -> list[tuple[str, str, str]]:
    seen: dict[str, Any] = {}

    def run(command: list[str], **options: Any) -> Any:
        seen.update(options["env"], command=command)
        return SimpleNamespace(**done)

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(subprocess, "run", run)
    rows = bench_torch.avx2_rows(Path("net.vta"))
    assert seen["command"][-1] == "net.vta"
    assert seen["ONEDNN_MAX_CPU_ISA"] == "AVX2" and seen["OMP_NUM_THREADS"] == "1"
    return rows


def test_the_fastest_of_pytorch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(monkeypatch, returncode=0, stdout="30.0 25.0 20.0\n", stderr="")
    assert [name for name, _, _ in rows] == [
        "fsim, avx2", "int8, PyTorch onednn, avx2", "int8, PyTorch fbgemm, avx2",
        "fsim / PyTorch, avx2",
    ]  # fmt: skip
    assert rows[-1][1:] == ("1.50", "<= 2.0")


def test_what_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = rows_of(monkeypatch, returncode=2, stdout="", stderr="kernels: must be among plain\n")
    assert rows == [
        ("AVX2 against PyTorch", "not measured", "kernels: must be among plain"),
    ]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert bench_torch.avx2_rows(Path("x"))[0][2] == "needs PyTorch"
