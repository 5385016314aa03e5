"""What is left to the host: how people find it, and that reading it needs no TVM."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from relay_passes.partition.host_work import DEQUANTIZE, QUANTIZE, Fallback

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("fallback", "label"),
    [
        (Fallback(name="t1", operator="nn.conv2d", reason=""), "t1 (nn.conv2d)"),
        (
            Fallback(name="t1", operator="nn.conv2d", reason="", node="/conv1", node_type="Conv"),
            "/conv1 (Conv)",
        ),
        (
            Fallback(name="x.q", operator=QUANTIZE, reason="", node="/conv1", node_type="Conv"),
            f"/conv1 ({QUANTIZE})",
        ),
        (Fallback(name="y", operator=DEQUANTIZE, reason=""), f"y ({DEQUANTIZE})"),
    ],
)
def test_its_label_is_the_node_of_the_file_where_there_is_one(
    fallback: Fallback, label: str
) -> None:
    assert fallback.label == label


def test_it_is_read_without_tvm() -> None:
    code = "import sys, relay_passes.partition.host_work; print('tvm' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"
