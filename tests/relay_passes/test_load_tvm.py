"""TVM without PyTorch."""

from __future__ import annotations

import subprocess
import sys

import pytest

from relay_passes.load_tvm import load_tvm, without_torch


def test_tvm_is_loaded_without_torch() -> None:
    code = (
        "import sys; from relay_passes.load_tvm import load_tvm; load_tvm(); "
        "print('tvm' in sys.modules, 'torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert shown.stdout.split() == [b"True", b"False"]


def test_torch_can_be_imported_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    with without_torch(), pytest.raises(ImportError):
        __import__("torch")
    assert "torch" not in sys.modules


def test_a_loaded_torch_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = object()
    monkeypatch.setitem(sys.modules, "torch", loaded)
    with without_torch():
        assert sys.modules["torch"] is loaded
    load_tvm()
    assert sys.modules["torch"] is loaded
