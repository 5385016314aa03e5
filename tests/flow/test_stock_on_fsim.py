"""Stock Relay quantization through our compiler: the golden logits come out of fsim."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from flow.compiler.codegen import build
from relay_passes.partition.partition import partition
from relay_passes.stock_relay.options import StockOptions
from relay_passes.stock_relay.quantize import StockRelay
from vta_config import VTAConfig


def logits(executable: Any, images: np.ndarray) -> np.ndarray:
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return np.stack([machine["main"](tvm.runtime.tensor(x[None])).numpy()[0] for x in images])


def load(shared_data: Path, name: str) -> tuple[Any, Any]:
    folder = shared_data / "golden" / "stock_relay"
    mod = from_onnx(onnx.load(str(folder / f"{name}.onnx")))
    return mod, np.load(folder / f"{name}.npz")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tiny", "resnet18_w16_32px"])
@pytest.mark.parametrize(("key", "skip"), [("gs8_skip0", (0,)), ("gs8_noskip", ())])
def test_golden_logits_come_out_of_fsim(
    shared_data: Path, default_config: VTAConfig, name: str, key: str, skip: tuple[int, ...]
) -> None:
    mod, golden = load(shared_data, name)
    split = partition(StockRelay(StockOptions(skip_conv_layers=skip))(mod), default_config)
    assert [g.name_hint for g in split.get_global_vars()] == ["main", "vta_0"]
    result = logits(build(split, default_config), golden["x"])
    np.testing.assert_allclose(result, golden[key], rtol=1e-6, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"weight_scale": "max"},  # factors that are no powers of two: 64-bit products on the host
        {"global_scale": 3.0, "rounding": "TONEAREST"},
        {"nbit_weight": 4, "nbit_input": 6, "skip_conv_layers": (0, 2)},
    ],
    ids=str,
)
def test_other_options_agree_with_the_host(
    shared_data: Path, default_config: VTAConfig, options: Any
) -> None:
    mod, golden = load(shared_data, "tiny")
    quantized = StockRelay(StockOptions(**options))(mod)
    on_host = logits(tvm.compile(quantized, target="llvm"), golden["x"])
    on_vta = logits(build(partition(quantized, default_config), default_config), golden["x"])
    np.testing.assert_array_equal(on_vta, on_host)
