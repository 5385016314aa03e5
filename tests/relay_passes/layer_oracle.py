"""Run a Subgraph's layers in plain numpy int64, straight from the meaning of Layer and PostOp."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relay_passes.partition.layers import Layer, Subgraph


def run_subgraph(subgraph: Subgraph, inputs: list[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return every tensor by name."""
    tensors = {spec.name: value for spec, value in zip(subgraph.inputs, inputs, strict=True)}
    for layer in subgraph.layers:
        operands = {name: tensors[name] for name in layer.inputs}
        tensors[layer.output] = run_layer(layer, operands)
    return tensors


def run_layer(layer: Layer, tensors: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Return the layer's output, int8 or int32[out_shape]."""
    acc = _start(layer, tensors)
    for product in layer.summands:
        acc = acc + _start(product, tensors)
    for op in layer.post_ops:
        value: Any = op.value
        if isinstance(value, np.ndarray):
            value = value.astype(np.int64).reshape(1, -1, 1, 1)
        tensor = None
        if op.tensor:
            tensor = tensors[op.tensor].reshape(acc.shape).astype(np.int64)
        acc = op.row.meaning(acc, value, tensor)
        assert np.abs(acc).max() < 2**31, (layer.name, op.op)
    return acc.astype(layer.out_dtype)


def _start(layer: Layer, tensors: dict[str, NDArray[Any]]) -> NDArray[np.int64]:
    x = tensors[layer.inputs[0]].reshape(layer.in_shape).astype(np.int64)
    if layer.movement is not None:
        data = layer.inputs[: len(layer.movement.shapes)]
        return layer.movement.move([tensors[name].astype(np.int64) for name in data])
    if layer.operator.takes_factor:
        n, channels, *_ = layer.in_shape
        factor = tensors[layer.inputs[1]].reshape(n, channels, 1, 1).astype(np.int64)
        data_zero, factor_zero = layer.zero_points
        product: Any = factor - factor_zero
        return layer.operator.meaning(x - data_zero, product, layer.window, layer.out_shape)
    return layer.operator.meaning(x, layer.weight, layer.window, layer.out_shape)
