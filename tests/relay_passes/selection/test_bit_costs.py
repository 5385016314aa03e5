"""What layers cost at each pair of bits, and which must agree."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from relay_passes.quantize_model import prepare
from relay_passes.scales.bit_widths import Widths
from relay_passes.selection.bit_costs import (
    LayerFacts,
    bit_operations,
    input_ties,
    layer_facts,
    size_bytes,
)
from relay_passes.selection.bit_program import Tie
from tests.relay_passes.models import CNN, residual_net

PAIRS = [Widths(weight_bits=4, activation_bits=4), Widths(weight_bits=4), Widths()]


@pytest.fixture(scope="module")
def layers() -> tuple[LayerFacts, ...]:
    return layer_facts(prepare(residual_net()))


def test_layers_in_order(layers: tuple[LayerFacts, ...]) -> None:
    names = [layer.name for layer in layers]
    assert len(set(names)) == len(names) and not any(name.endswith(".acc") for name in names)
    assert [layer.is_end for layer in layers] == [True, *[False] * (len(layers) - 2), True]


def test_size_and_bit_operations(layers: tuple[LayerFacts, ...]) -> None:
    size, bops = size_bytes(layers, PAIRS), bit_operations(layers, PAIRS)
    weights = np.array([layer.weights for layer in layers])
    macs = np.array([layer.macs for layer in layers])
    assert size.tolist() == np.stack([weights / 2, weights / 2, weights], 1).tolist()
    assert bops.tolist() == np.stack([16 * macs, 32 * macs, 64 * macs], 1).tolist()


def test_a_layer_by_hand() -> None:
    net = CNN()
    conv = net.conv(net.data, 5)
    (layer,) = layer_facts(prepare(net.module(conv)))
    assert (layer.weights, layer.macs, layer.is_end) == (135, 135 * 12 * 12, True)


def test_layers_that_read_one_tensor_are_tied(layers: tuple[LayerFacts, ...]) -> None:
    readers: dict[str, list[str]] = {}
    for layer in layers:
        readers.setdefault(layer.reads, []).append(layer.name)
    shared: list[Any] = [tuple(names) for names in readers.values() if len(names) > 1]
    assert shared  # the downsample beside its convolution
    assert input_ties(layers) == tuple(Tie(layers=names, what="activations") for names in shared)
