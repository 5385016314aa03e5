"""What may be learned: tensors, scales that move together, blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from relay_passes.calibration.profiling import profile
from relay_passes.choose_scales import choose_scales
from relay_passes.learning.structure import Structure, structure_of
from relay_passes.quant_options import QuantOptions
from relay_passes.quantize_model import prepare
from relay_passes.scales.block_scales import BlockScales
from relay_passes.scales.scales import weights_of
from tests.relay_passes.models import CNN, images, joined_net, residual_net


def structure(mod: Any, **changes: Any) -> Structure:
    options = QuantOptions(**{"chooser": BlockScales()} | changes)
    scales = choose_scales(mod, profile(mod, images(2)), options)
    weights = {n: np.zeros(r.shape, np.int8) for n, r, _ in weights_of(mod) if n in scales.weights}
    return structure_of(mod, scales, weights, fuse=options.fuse, block=options.block)


def ties(found: Structure) -> set[frozenset[str]]:
    """Return the tensors that are tied, more than one at a time."""
    groups: dict[str, set[str]] = {}
    for name, first in found.tied.items():
        groups.setdefault(first, set()).add(name)
    return {frozenset(group) for group in groups.values() if len(group) > 1}


def test_blocks_lie_between_single_tensors() -> None:
    found = structure(prepare(residual_net()))
    assert [b.layers for b in found.blocks] == [
        ("conv0.acc",),
        ("conv1.acc", "conv2.acc", "conv3.acc"),
        ("conv4.acc", "conv5.acc"),
        ("dense0.acc",),
    ]
    first, *_, last = found.blocks
    assert first.inputs == ("data",) and first.outputs == ("maxpool0",)  # the pool is inside
    assert [b.outputs for b in found.blocks[:-1]] == [b.inputs for b in found.blocks[1:]]
    assert [b.croppable for b in found.blocks] == [True, True, True, False]
    assert last.outputs == ("dense0",)


def test_scales_of_sums_and_averages_move_together() -> None:
    found = structure(prepare(residual_net()))
    (tied,) = ties(found)
    sums = {end for layer, (_, end) in found.layers.items() if layer in ("conv2.acc", "conv5.acc")}
    assert sums < tied and "avgpool0" in tied
    assert found.free == {"dense0.acc"}


def test_what_stands_side_by_side_is_integers_of_one_scale() -> None:
    found = structure(prepare(joined_net()))
    (tied,) = (group for group in ties(found) if "concat0" in group)
    assert {"conv0.relu", "conv1.relu"} < tied
    assert found.layers["conv3.acc"][0] == "concat0" and "concat0" in found.quantized


def test_channels_that_may_be_scaled_have_layers_on_both_sides() -> None:
    net = CNN()
    x = net.emit(relax.op.clip(net.conv(net.data, 8), 0.0, 6.0))
    x = net.relu(net.conv(x, 8))
    found = structure(prepare(net.module(net.head(x))))
    (group,) = found.groups  # not those of the clip
    assert set(group.writers) == {"conv1.acc"} and set(group.readers) == {"dense0.acc"}
    assert all(name in found.group_of() for name in group.tensors)


def test_a_depthwise_layer_is_a_block_whose_channels_stay() -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 8))
    x = net.relu(net.conv(x, 8, groups=8))
    found = structure(prepare(net.module(net.head(net.relu(net.conv(x, 6, 1))))))
    assert len(found.blocks) == 4
    assert [g.channels for g in found.groups] == [6]


def test_a_layer_that_makes_results_is_free() -> None:
    """A feature map that the host reads is int8, and its scale is the tensor's."""
    net = CNN()
    x = net.conv(net.data, 8)
    y = net.emit(relax.op.nn.softmax(net.conv(net.relu(x), 8), axis=1))
    found = structure(prepare(net.module(net.head(y))))
    assert found.free == {"dense0.acc"}


def test_unfused_layers_end_before_their_relu() -> None:
    mod = prepare(residual_net())
    fused, unfused = structure(mod), structure(mod, fuse=False, chooser=QuantOptions().chooser)
    assert fused.quantized < unfused.quantized
    assert max(map(len, ties(unfused))) > max(map(len, ties(fused)))


def test_a_graph_that_nothing_narrows_is_cut_all_the_same() -> None:
    net = CNN()
    x = net.relu(net.conv(net.data, 4))
    for _ in range(6):
        x = net.relu(net.emit(relax.op.concat([x, net.relu(net.conv(net.relu(x), 4))], axis=1)))
        x = net.add(net.relu(net.conv(x, 8)), net.relu(net.conv(x, 8)))
    found = structure(prepare(net.module(net.head(x))))
    assert len(found.blocks) > 2
    layers = [name for block in found.blocks for name in block.layers]
    assert sorted(layers) == sorted(found.layers)
