"""Layouts round-trip, and constants survive being written as digits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.program.layouts import (
    constant_digits,
    constant_vector,
    diagonal_weight,
    join_byte_planes,
    pack_activation,
    pack_weight,
    unpack_activation,
)
from tests.strategies import configs
from vta_config.errors import CapacityError
from vta_config.hardware import VTAConfig


@given(config=configs(), shape=st.tuples(*[st.integers(1, 9)] * 4))
def test_activations_round_trip(config: VTAConfig, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    packed = pack_activation(x, config)
    assert packed.shape[-2:] == (config.batch, config.block)
    np.testing.assert_array_equal(unpack_activation(packed, shape, config), x)


def test_weight_blocks(default_config: VTAConfig) -> None:
    weight = np.random.default_rng(0).integers(-127, 128, (20, 35, 3, 2)).astype(np.int8)
    packed = pack_weight(weight, default_config)
    assert packed.shape == (2, 3, 3, 2, 16, 16)
    assert packed[1, 2, 1, 0, 3, 2] == weight[19, 34, 1, 0]
    assert not packed[1, :, :, :, 4:].any() and not packed[:, 2, :, :, :, 3:].any()


@given(
    preset=st.sampled_from(["default", "block32"]),
    values=st.lists(st.integers(-(1 << 21), 1 << 21), min_size=1, max_size=64),
)
def test_digits_are_exact(preset: str, values: list[int]) -> None:
    config = VTAConfig.load(preset)
    padded = np.array(values + [0] * (-len(values) % config.block), np.int64)
    digits = constant_digits(padded, config, "layer").astype(np.int64)
    assert digits.min() >= -127 and digits.max() <= 127
    vector = constant_vector(config)[0].astype(np.int64)
    np.testing.assert_array_equal((digits @ vector).sum(axis=1).ravel(), padded)


def test_one_step_reaches_what_the_documentation_says(default_config: VTAConfig) -> None:
    for value, steps in ((242_062, 1), (-242_062, 1), (242_063, 2)):
        values = np.full(16, value, np.int64)
        assert constant_digits(values, default_config, "layer").shape[1] == steps


def test_constants_beyond_int32_are_refused(default_config: VTAConfig) -> None:
    with pytest.raises(CapacityError, match=r"conv1\.bias: must fit an int32 accumulator, got"):
        constant_digits(np.full(16, 1 << 31, np.int64), default_config, "conv1")


def test_byte_planes_join() -> None:
    values = np.array([0, 1, -1, 127, -128, 1 << 30, -(1 << 31)], np.int32)
    planes = values.view(np.uint8).reshape(-1, 4).T
    np.testing.assert_array_equal(join_byte_planes(planes), values)


def test_diagonal_weight(default_config: VTAConfig) -> None:
    np.testing.assert_array_equal(diagonal_weight(64, default_config), 64 * np.eye(16, dtype=int))
