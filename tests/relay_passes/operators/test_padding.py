"""Padding by a zero point: what the integer graph says, and the layer that takes it in."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tvm import relax
from tvm.relax import op

from relay_passes.operators import rules
from relay_passes.operators.chain import Padding
from relay_passes.operators.padding import padded, read_padding
from relay_passes.partition.fallbacks import fallbacks
from relay_passes.partition.read import layers_of
from tests.relay_passes.operators.anchors import followed, ones
from tests.relay_passes.partition.integers import Int8, check_meaning
from vta_config import VTAConfig

SIDES = (1, 2, 0, 2)


def module(padding: Padding, *, own: int = 0, groups: int = 1, readers: int = 1) -> Any:
    """Return a convolution of a padded picture, and further readers of what is padded."""
    t = Int8()
    x = t.emit(padded(t.data, padding))
    weight = t.net.rng.integers(-127, 128, (4, 4 // groups, 3, 3)).astype(np.int8)
    results = []
    for _ in range(readers):
        call = op.nn.conv2d(x, relax.const(weight), padding=own, groups=groups, out_dtype="int32")
        results.append(t.small(t.emit(call)))
    return t.module(*results)


def test_what_is_written_is_read() -> None:
    data = relax.Var("x", relax.TensorType((1, 4, 6, 6), "int8"))
    padding = Padding(SIDES, -128)
    assert read_padding(relax.BlockBuilder().normalize(padded(data, padding))) == padding


@pytest.mark.parametrize(
    "call",
    [
        op.nn.pad(relax.Var("x", relax.TensorType((1, 4, 6, 6), "float32")), [0] * 4 + [1] * 4),
        op.nn.pad(relax.Var("x", relax.TensorType((1, 4, 6, 6), "int8")), [0, 0, 0, 1] + [1] * 4),
        op.nn.pad(relax.Var("x", relax.TensorType((1, 4, 6), "int8")), [0] * 4 + [1] * 2),
        op.nn.pad(
            relax.Var("x", relax.TensorType((1, 4, 6, 6), "int8")), [0] * 4 + [1] * 4, "reflect"
        ),
        op.nn.pad(
            relax.Var("x", relax.TensorType((1, 4, 6, 6), "int8")), [0] * 4 + [1] * 4, pad_value=0.5
        ),
        op.nn.relu(relax.Var("x", relax.TensorType((1, 4, 6, 6), "int8"))),
    ],
)
def test_other_padding_is_not_read(call: Any) -> None:
    assert read_padding(call) is None


@pytest.mark.parametrize("groups", [1, 4])
def test_a_layer_takes_the_padding_in(groups: int, default_config: VTAConfig) -> None:
    mod = module(Padding(SIDES, -128), groups=groups)
    assert fallbacks(mod, default_config) == ()
    (layer,) = check_meaning(mod, default_config)
    assert (layer.padding, layer.pad_value) == (SIDES, -128)
    assert (layer.in_shape, layer.out_shape) == ((1, 4, 6, 6), (1, 4, 5, 8))


def test_what_others_read_or_is_padded_twice_is_a_layer(default_config: VTAConfig) -> None:
    for mod in (module(Padding(SIDES, -8), readers=2), module(Padding(SIDES, -8), own=1)):
        assert fallbacks(mod, default_config) == ()
        assert "move" in [layer.kind for layer in layers_of(mod, default_config)]
        assert {layer.pad_value for layer in layers_of(mod, default_config)} == {0}


@pytest.mark.parametrize(
    ("sides", "fits", "meets"),
    [
        ((1, 1, 1, 1), True, True),
        ((3, 0, 0, 0), True, False),  # the first window is all padding
        ((0, 0, 16, 0), False, False),
        ((2, 2, 2, 2), True, True),
    ],
)
def test_rules_count_this_padding(
    sides: Any, fits: bool, meets: bool, default_config: VTAConfig
) -> None:
    t = Int8()
    x = t.emit(padded(t.data, Padding(sides, -128)))
    chain = followed(t.module(t.emit(op.nn.conv2d(x, ones(4, 4, 3, 3), out_dtype="int32"))))
    assert chain.padding == Padding(sides, -128)
    assert rules.padding_fits(chain, default_config) is fits
    assert rules.windows_meet_the_input(chain, default_config) is meets
