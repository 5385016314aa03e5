"""Layers in plain numpy, tensor by tensor: what a lowered program must compute."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from relay_passes.params import Layer, Subgraph


def run_layer(layer: Layer, tensors: dict[str, NDArray[Any]]) -> NDArray[Any]:
    """Compute one layer on NCHW integers."""
    x = tensors[layer.inputs[0]].astype(np.int64).reshape(layer.in_shape)
    if layer.kind == "add":
        acc = np.zeros(layer.out_shape, np.int64)
    elif layer.kind == "sum_pool2d":
        acc = x.sum(axis=(2, 3), keepdims=True)
    else:
        acc = _windows(layer, x)
    for step in layer.steps:
        value = np.asarray(step.value).astype(np.int64)
        value = value.reshape(1, -1, 1, 1) if value.ndim else value
        if step.op == "add_tensor":
            acc = acc + (tensors[step.tensor].astype(np.int64) << value)
        elif step.op == "add_scaled":
            acc = acc + tensors[step.tensor].astype(np.int64) * value
        elif step.op == "add":
            acc = acc + value
        elif step.op == "shr":
            acc = acc >> value
        elif step.op == "shl":
            acc = acc << value
        elif step.op == "min":
            acc = np.minimum(acc, value)
        elif step.op == "max":
            acc = np.maximum(acc, value)
        else:
            acc = acc * value
    return acc.astype(layer.out_dtype)


def _windows(layer: Layer, x: NDArray[np.int64]) -> NDArray[np.int64]:
    top, left, bottom, right = layer.padding
    fill = -128 if layer.kind == "max_pool2d" else 0
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    _, _, oh, ow = layer.out_shape
    acc = np.full(layer.out_shape, -128 if layer.kind == "max_pool2d" else 0, np.int64)
    for ky, kx in product(*map(range, layer.kernel)):
        y, z = ky * layer.dilation[0], kx * layer.dilation[1]
        part = x[:, :, y : y + (oh - 1) * layer.stride[0] + 1 : layer.stride[0]]
        part = part[..., z : z + (ow - 1) * layer.stride[1] + 1 : layer.stride[1]]
        if layer.kind == "max_pool2d":
            acc = np.maximum(acc, part)
        else:
            assert layer.weight is not None
            acc += np.einsum("nihw,oi->nohw", part, layer.weight[:, :, ky, kx].astype(np.int64))
    return acc


def run_subgraph(subgraph: Subgraph, inputs: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Compute every tensor of a subgraph."""
    tensors = dict(inputs)
    for layer in subgraph.layers:
        tensors[layer.output] = run_layer(layer, tensors)
    return tensors
