"""What a layer in normal form cannot hold is named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from flow.compiler.lower import Lowering, lower
from flow.compiler.normal_form import normal_layer
from flow.compiler.search import search
from flow.program.layouts import pack_weight
from relay_passes.partition.layers import Layer, PostOp, TensorSpec
from tests.flow.compiler.networks import conv, residual_network, subgraph
from tests.flow.compiler.test_lower import compiled
from tests.flow.compiler.test_uops import uop_program
from vta_config.errors import CapacityError, UnsupportedModelError
from vta_config.hardware import VTAConfig

X = TensorSpec(name="x", shape=(1, 16, 4, 4), dtype="int8")
SHIFT = PostOp(op="shr", value=1)


def layer(*steps: PostOp, channels: int = 32) -> Layer:
    return conv(np.random.default_rng(0), "conv", X, channels, (1, 1), post_ops=steps)


def test_normal_form(default_config: VTAConfig) -> None:
    steps = (
        PostOp(op="add", value=np.arange(32, dtype=np.int32)),
        PostOp(op="add", value=4),
        PostOp(op="shr", value=18),
        PostOp(op="add", value=70_000),
        PostOp(op="min", value=127),
    )
    normal = normal_layer(layer(*steps), default_config)
    assert normal.shape.constants == 1 and normal.weight_elems == 2 * 2
    assert normal.weights(default_config).shape == (2, 2, 16, 16)
    assert [(p.op, p.imm[0]) for p in normal.epilogue] == [
        ("shr", 15),
        ("shr", 3),
        ("add", 32767),
        ("add", 32767),
        ("add", 4466),
        ("min", 127),
    ]


@pytest.mark.parametrize(
    ("steps", "sentence"),
    [
        (
            (PostOp(op="shl", value=np.repeat([1, 2], 16).astype(np.int32)),),
            "conv.shl: must be one number a layer, got (1, 2)",
        ),
        (
            (PostOp(op="mul", value=-3),),
            "conv.mul: must be at least 1 on a machine without the capability mul, got -3",
        ),
        ((PostOp(op="min", value=40_000),), "conv.min: must fit a 16-bit immediate, got 40000"),
        ((SHIFT, PostOp(op="add", value=1 << 22)), "conv.add: must fit 64 immediates of 16 bits"),
        (
            (PostOp(op="shr", value=np.arange(32, dtype=np.int32)),),
            "conv.shr: must be one number a block of output channels, got one a channel",
        ),
    ],
)
def test_sentences(steps: tuple[PostOp, ...], sentence: str, default_config: VTAConfig) -> None:
    with pytest.raises((CapacityError, UnsupportedModelError)) as error:
        normal_layer(layer(*steps), default_config)
    assert str(error.value).startswith(sentence)


def test_pools_that_do_not_fit(default_config: VTAConfig) -> None:
    graph = residual_network(np.random.default_rng(0))
    pool = graph.layers[1]
    source = TensorSpec(name="stem", shape=pool.in_shape, dtype="int8")
    added = replace(pool, post_ops=(PostOp(op="add", value=1),))
    with pytest.raises(CapacityError, match="pool: must not be followed by an addition"):
        compiled(subgraph((added,), source))
    late = (PostOp(op="max", value=0), PostOp(op="add_tensor", value=0, tensor="y"))
    late_added = replace(pool, inputs=("stem", "y"), post_ops=late)
    y = TensorSpec(name="y", shape=pool.out_shape, dtype="int8")
    with pytest.raises(CapacityError, match="pool: must not be followed by an addition"):
        compiled(subgraph((late_added,), source, y))
    outside = replace(pool, in_shape=(1, 20, 2, 2), out_shape=(1, 20, 2, 2), stride=(2, 2),
                      padding=(1, 1, 2, 2))  # fmt: skip
    small = TensorSpec(name="stem", shape=(1, 20, 2, 2), dtype="int8")
    with pytest.raises(CapacityError, match="pool: must start every window inside the picture"):
        compiled(subgraph((outside,), small))
    x = TensorSpec(name="stem", shape=(1, 20, 7, 9), dtype="int8")
    apart = replace(pool, dilation=(1, 2), stride=(2, 1), in_shape=x.shape, out_shape=(1, 20, 4, 7))
    beyond = replace(pool, padding=(3, 1, 0, 1), stride=(2, 1), in_shape=x.shape,
                     out_shape=(1, 20, 4, 9))  # fmt: skip
    for odd in (apart, beyond):
        with pytest.raises(CapacityError, match="pool: must be padded by less than its kernel"):
            compiled(subgraph((odd,), x))
    wide = replace(pool, kernel=(20, 20), padding=(9, 9, 9, 9), in_shape=(1, 20, 40, 40),
                   out_shape=(1, 20, 20, 20))  # fmt: skip
    large = TensorSpec(name="stem", shape=(1, 20, 40, 40), dtype="int8")
    with pytest.raises(
        CapacityError, match="pool: one window must fit 256 inp elements and, with its max"
    ):
        compiled(subgraph((wide,), large), "small")


def test_micro_ops_of_one_instruction_must_fit() -> None:
    config = VTAConfig.load("small")
    with pytest.raises(CapacityError, match="its micro-ops must fit the uop buffer of 512, got 51"):
        uop_program(config, [513])


def test_weights_are_packed_once_after_choosing(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = []

    def counted(weight: NDArray[np.int8], config: VTAConfig) -> NDArray[np.int8]:
        packed.append(weight.shape)
        return pack_weight(weight, config)

    monkeypatch.setattr("flow.compiler.normal_form.pack_weight", counted)
    config = VTAConfig.load("small")
    graph = residual_network(np.random.default_rng(0))
    first, *_ = graph.layers
    alone = subgraph((first,), graph.inputs[0])
    found = search(alone, config)  # times many tilings, and forms of the input
    assert not packed
    lower(alone, config, found)
    assert len(packed) == 1
    packed.clear()
    lower(graph, config)
    assert len(packed) == sum(layer.weight is not None for layer in graph.layers)


def test_timing_needs_no_weights(default_config: VTAConfig) -> None:
    graph = residual_network(np.random.default_rng(0))
    whole = Lowering(graph, default_config).run()
    timed = Lowering(graph, default_config, timing_only=True).run()
    assert timed.insns == whole.insns
    assert len(timed.constants) == len(whole.constants) and timed.constants != whole.constants
