"""Small float modules for stock Relay's quantization, and how to run them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.host.run import compile_for_host
from relay_passes.stock_relay.fold_scales import fold_scales
from relay_passes.stock_relay.nodes import Node, post_order, read_nodes
from relay_passes.stock_relay.options import StockOptions
from relay_passes.stock_relay.quantize import StockRelay, quantize_nodes
from vta_config.errors import UnsupportedModelError


def run(mod: Any, *inputs: np.ndarray) -> np.ndarray:
    machine = relax.VirtualMachine(compile_for_host(mod, "llvm"), tvm.cpu())
    return machine["main"](*[tvm.runtime.tensor(x) for x in inputs]).numpy()


def model(shape: tuple[int, ...], body: Callable[[Any, Any], Any]) -> Any:
    """Build a float module; `body(emit, data)` returns its result."""
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType(shape, "float32"))
    with builder.function("main", [data]):
        with builder.dataflow():
            result = builder.emit_output(body(builder.emit, data))
        builder.emit_func_output(result)
    return builder.get()


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype(np.float32)


def weights(*shape: int, seed: int = 0, scale: float = 0.3) -> Any:
    return relax.const(random(*shape, seed=seed, scale=scale))


def quantized(mod: Any, options: StockOptions) -> Node:
    return quantize_nodes(fold_scales(read_nodes(mod)), options)


def ops(root: Node) -> list[str]:
    return [node.op for node in post_order(root) if node.op not in ("var", "const")]


def lines(root: Node) -> list[str]:
    """Write a graph, a node a line: what Relax has no operators for, and who reads which node."""
    names: dict[Node, str] = {}
    text: list[str] = []
    for node in post_order(root):
        if node.op in ("var", "const"):
            names[node] = node.name if node.op == "var" else "const"
            continue
        names[node] = f"%{len(text)}"
        op = "_".join(filter(None, (node.op, node.attrs.get("kind"))))
        text.append(f"{names[node]} = {op}({', '.join(names[arg] for arg in node.args)})")
    return text


def refuse(body: Callable[[Any, Any], Any], sentence: str, **options: Any) -> None:
    chosen = StockOptions(**({"skip_conv_layers": ()} | options))
    with pytest.raises(UnsupportedModelError, match=sentence):
        StockRelay(chosen)(model((1, 3, 4, 4), body))
