"""Small layers and networks with random integers, to be lowered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flow.compiler.shapes import ConvShape
from relay_passes.partition.layers import Layer, PostOp, Subgraph, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vta_config.hardware import VTAConfig


def weights(rng: np.random.Generator, *shape: int) -> NDArray[np.int8]:
    """Return int8 in [-127, 127]."""
    return rng.integers(-127, 128, shape).astype(np.int8)


def requantize(
    rng: np.random.Generator, channels: int, shift: int, *, relu: bool = True
) -> tuple[PostOp, ...]:
    """Return bias, rounding, shift and clip."""
    bias = rng.integers(-300_000, 300_000, channels).astype(np.int32)
    return (
        PostOp(op="add", value=bias),
        PostOp(op="add", value=1 << (shift - 1)),
        PostOp(op="shr", value=shift),
        PostOp(op="max", value=0 if relu else -127),
        PostOp(op="min", value=127),
    )


def output_of(source: Layer | TensorSpec) -> tuple[str, tuple[int, ...]]:
    """Return the name and the shape of what a layer makes, or of an input."""
    if isinstance(source, Layer):
        return source.output, source.out_shape
    return source.name, source.shape


def conv(
    rng: np.random.Generator,
    name: str,
    source: Layer | TensorSpec,
    channels: int,
    kernel: tuple[int, int],
    **options: Any,
) -> Layer:
    """Return a convolution of the output of `source` with random weights."""
    tensor, in_shape = output_of(source)
    stride, padding, dilation = (
        options.get("stride", (1, 1)),
        options.get("padding", (0, 0, 0, 0)),
        options.get("dilation", (1, 1)),
    )
    out = [
        (in_shape[2 + a] + padding[a] + padding[2 + a] - dilation[a] * (kernel[a] - 1) - 1)
        // stride[a]
        + 1
        for a in (0, 1)
    ]
    post_ops = options.pop("post_ops") if "post_ops" in options else requantize(rng, channels, 10)
    summands = (product.inputs[0] for product in options.get("summands", ()))
    operands = (*summands, *(s.tensor for s in post_ops if s.tensor))
    return Layer(
        name=name,
        kind="conv2d",
        inputs=(tensor, *operands),
        output=name,
        in_shape=in_shape,
        out_shape=(in_shape[0], channels, *out),
        weight=weights(rng, channels, in_shape[1], *kernel),
        kernel=kernel,
        post_ops=post_ops,
        **options,
    )


def max_pool(
    name: str,
    source: Layer | TensorSpec,
    kernel: int,
    stride: int,
    padding: int = 0,
    dilation: int = 1,
) -> Layer:
    """Return a square max-pool of the output of `source`."""
    tensor, in_shape = output_of(source)
    reach = (kernel - 1) * dilation + 1
    out = ((size + 2 * padding - reach) // stride + 1 for size in in_shape[2:])
    return Layer(
        name=name,
        kind="max_pool2d",
        inputs=(tensor,),
        output=name,
        in_shape=in_shape,
        out_shape=(*in_shape[:2], *out),
        weight=None,
        kernel=(kernel, kernel),
        stride=(stride, stride),
        padding=(padding,) * 4,
        dilation=(dilation, dilation),
    )


def sum_pool(name: str, source: Layer, shift: int) -> Layer:
    """Return the sum of a layer's pixels, shifted and clipped."""
    return Layer(
        name=name,
        kind="sum_pool2d",
        inputs=(source.output,),
        output=name,
        in_shape=source.out_shape,
        out_shape=(*source.out_shape[:2], 1, 1),
        weight=None,
        post_ops=(
            PostOp(op="add", value=1 << (shift - 1)),
            PostOp(op="shr", value=shift),
            PostOp(op="min", value=127),
        ),
    )


def dense(
    rng: np.random.Generator, name: str, source: Layer, outputs: int, **options: Any
) -> Layer:
    """Return a dense layer on one pixel with random weights."""
    channels = source.out_shape[1]
    return Layer(
        name=name,
        kind="dense",
        inputs=(source.output,),
        output=name,
        in_shape=source.out_shape,
        out_shape=(1, outputs, 1, 1),
        weight=weights(rng, outputs, channels, 1, 1),
        **options,
    )


def residual_network(rng: np.random.Generator, *, size: int = 32) -> Subgraph:
    """Return a network with every kind of layer: stem, pools, residuals, addition, dense."""
    x = TensorSpec(name="x", shape=(1, 3, size, size), dtype="int8")
    stem = conv(rng, "stem", x, 20, (7, 7), stride=(2, 2), padding=(3, 3, 3, 3))
    pool = max_pool("pool", stem, 3, 2, 1)
    first = conv(rng, "first", pool, 40, (3, 3), padding=(1, 1, 1, 1))
    skip = conv(rng, "skip", pool, 40, (1, 1), post_ops=requantize(rng, 40, 9, relu=False))
    bias, *rest = requantize(rng, 40, 11)
    joined = (bias, PostOp(op="add_tensor", value=8, tensor="skip"), *rest)
    second = conv(rng, "second", first, 40, (3, 3), padding=(1, 1, 1, 1), post_ops=joined)
    doubled = (*requantize(rng, 33, 18), PostOp(op="shl", value=1), PostOp(op="min", value=127))
    dilated = conv(
        rng,
        "dilated",
        second,
        33,
        (3, 3),
        stride=(2, 2),
        padding=(2, 2, 2, 2),
        dilation=(2, 2),
        post_ops=doubled,
    )
    strided = conv(rng, "strided", second, 33, (1, 1), stride=(2, 2))
    added = Layer(
        name="added",
        kind="add",
        inputs=("dilated", "strided"),
        output="added",
        in_shape=strided.out_shape,
        out_shape=strided.out_shape,
        weight=None,
        post_ops=(
            PostOp(op="add_tensor", value=3, tensor="dilated"),
            PostOp(op="add_tensor", value=0, tensor="strided"),
            PostOp(op="add", value=4),
            PostOp(op="shr", value=3),
            PostOp(op="min", value=127),
        ),
    )
    average = sum_pool("average", added, 2)
    bias = PostOp(op="add", value=rng.integers(-(1 << 22), 1 << 22, 100).astype(np.int32))
    last = dense(rng, "dense", average, 100, post_ops=(bias,), out_dtype="int32")
    layers = (stem, pool, first, skip, second, dilated, strided, added, average, last)
    return subgraph(layers, x)


def subgraph(layers: tuple[Layer, ...], *inputs: TensorSpec) -> Subgraph:
    """Return the layers as a subgraph whose output is the last one's."""
    last = layers[-1]
    output = TensorSpec(name=last.output, shape=last.out_shape, dtype=last.out_dtype)
    return Subgraph(symbol="vta_0", inputs=inputs, outputs=(output,), layers=layers)


def resnet_layer(channels: int, size: int, config: VTAConfig, *, kernel: int = 3) -> ConvShape:
    """Return a layer with a bias and an epilogue of three ALU instructions."""
    timing = config.profile
    reset, gemm = timing.overhead(alu=False, reset=True), timing.overhead(alu=False)
    return ConvShape(
        oc=channels // config.block,
        ic=channels // config.block,
        height=size,
        width=size,
        out_height=size,
        out_width=size,
        kernel=(kernel, kernel),
        stride=(1, 1),
        dilation=(1, 1),
        padding=(kernel // 2, kernel // 2),
        constants=1,
        vector_cycles=timing.gemm_reset_step + timing.gemm_step + 3 * timing.alu_imm_step,
        tile_cycles=reset + gemm + 3 * timing.overhead(alu=True),
        step_cycles=timing.gemm_step,
    )
