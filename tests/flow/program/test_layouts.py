"""Layouts round-trip, and constants survive being written as digits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow.program.layouts import (
    NO_BORDER,
    Border,
    constant_digits,
    constant_vector,
    diagonal_weight,
    join_byte_planes,
    pack_activation,
    pack_diagonals,
    pack_weight,
    unpack_activation,
    wgt_bytes,
)
from flow.program.program import PortTensor
from tests.strategies import configs
from vta_config.errors import CapacityError
from vta_config.hardware import VTAConfig
from vta_config.lanes import pack_lanes, planes_of, unpack_lanes, wrap_lanes


@given(config=configs(), shape=st.tuples(*[st.integers(1, 9)] * 4))
def test_activations_round_trip(config: VTAConfig, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    packed = pack_activation(x, config)
    assert packed.shape[-2:] == (config.batch, config.block)
    np.testing.assert_array_equal(unpack_activation(packed, shape, config), x)


@given(config=configs(), shape=st.tuples(*[st.integers(1, 9)] * 4))
def test_ports_round_trip(config: VTAConfig, shape: tuple[int, ...]) -> None:
    """Int8 in as many planes as it needs, and int32 as STORE leaves it."""
    x = np.random.default_rng(0).integers(-128, 128, shape).astype(np.int8)
    port = PortTensor(
        name="x",
        dtype="int8",
        shape=shape,
        address=0,
        planes=planes_of(-128, 127, config.inp_bits),
    )
    assert port.planes == (1 if config.inp_bits == 8 else 3)
    packed = port.pack(x, config)
    assert packed.dtype == np.uint8 and packed.size == port.bytes_in(config)
    np.testing.assert_array_equal(port.unpack(packed, config), x)

    wide = np.random.default_rng(1).integers(-(1 << 31), 1 << 31, shape).astype(np.int32)
    bits = config.inp_bits
    port = replace(port, dtype="int32", planes=32 // bits)
    lanes = [pack_activation(wrap_lanes(wide >> bits * p, bits), config) for p in range(32 // bits)]
    stored = np.concatenate([pack_lanes(plane, bits) for plane in lanes])
    assert stored.size == port.bytes_in(config)
    np.testing.assert_array_equal(port.unpack(stored, config), wide)


def test_numbers_in_too_few_planes_are_refused() -> None:
    config = VTAConfig.load("w4a4")
    x = np.full((1, 1, 1, 1), 120, np.int8)
    port = PortTensor(name="data", dtype="int8", shape=x.shape, address=0, planes=2)
    sentence = r"^data: must be in \[-136, 119\] to take 2 x 4 bits, got 120; clip the numbers,"
    with pytest.raises(CapacityError, match=sentence):
        port.pack(x, config)
    assert port.pack(x - 1, config)[0] == 7  # 119 = 7 * 16 + 7
    element = np.full((16, 16), -9, np.int8)
    with pytest.raises(CapacityError, match=r"^c: must be in \[-8, 7\] to take 1 x 4 bits, got -9"):
        wgt_bytes(element, VTAConfig.load("w4"), "c")
    assert wgt_bytes(element, VTAConfig.load("default"), "c").view(np.int8).tolist() == [-9] * 256


def test_weights_of_4_bits(default_config: VTAConfig) -> None:
    weight = np.random.default_rng(0).integers(-8, 8, (20, 35, 3, 2)).astype(np.int8)
    narrow = VTAConfig.load("w4")
    packed = pack_weight(weight, narrow)
    np.testing.assert_array_equal(packed, pack_weight(weight, default_config))
    data = wgt_bytes(packed, narrow, "w")
    assert data.size == packed.size // 2
    np.testing.assert_array_equal(unpack_lanes(data, 4), packed.reshape(-1))
    element = data.reshape(2, 3, 3, 2, 16, 8)[1, 2, 1, 0]  # [block_out][block_in / 2]
    even, odd = (int(weight[19, channel, 1, 0]) & 15 for channel in (32, 33))
    assert element[3, 0] == even | odd << 4
    diagonals = pack_diagonals(weight[:, :1], narrow)
    assert wgt_bytes(diagonals, narrow, "w").size == diagonals.size // 2


def test_weight_blocks(default_config: VTAConfig) -> None:
    weight = np.random.default_rng(0).integers(-127, 128, (20, 35, 3, 2)).astype(np.int8)
    packed = pack_weight(weight, default_config)
    assert packed.shape == (2, 3, 3, 2, 16, 16)
    assert packed[1, 2, 1, 0, 3, 2] == weight[19, 34, 1, 0]
    assert not packed[1, :, :, :, 4:].any() and not packed[:, 2, :, :, :, 3:].any()


@given(
    preset=st.sampled_from(["default", "block32", "w4", "w4a4", "a4"]),
    values=st.lists(st.integers(-(1 << 21), 1 << 21), min_size=1, max_size=64),
)
def test_digits_are_exact(preset: str, values: list[int]) -> None:
    if preset == "a4":
        config = replace(VTAConfig.load("w4a4"), log_wgt_width=3, log_wgt_buff_bytes=18)
    else:
        config = VTAConfig.load(preset)
    padded = np.array(values + [0] * (-len(values) % config.block), np.int64)
    digits = constant_digits(padded, config, "layer").astype(np.int64)
    assert np.abs(digits).max() <= config.wgt_max
    vector = constant_vector(config)[0].astype(np.int64)
    np.testing.assert_array_equal((digits @ vector).sum(axis=1).ravel(), padded)


def test_one_step_reaches_what_the_documentation_says(default_config: VTAConfig) -> None:
    for value, steps in ((242_062, 1), (-242_062, 1), (242_063, 2)):
        values = np.full(16, value, np.int64)
        assert constant_digits(values, default_config, "layer").shape[1] == steps


@pytest.mark.parametrize(("preset", "reach"), [("w4", 12_558), ("w4a4", 742)])
def test_one_step_of_narrow_operands_reaches_less(preset: str, reach: int) -> None:
    """7·(127·14 + 15 + 1) with int8 inputs, 7·(7·15 + 1) with int4 ones."""
    config = VTAConfig.load(preset)
    units = [15, 1] if preset == "w4" else [1]
    lanes = [config.inp_max] * (16 - len(units))
    assert constant_vector(config).tolist() == [lanes + units]
    for value, steps in ((reach, 1), (-reach, 1), (reach + 1, 2)):
        values = np.full(16, value, np.int64)
        assert constant_digits(values, config, "layer").shape[1] == steps


def test_constants_beyond_int32_are_refused(default_config: VTAConfig) -> None:
    with pytest.raises(CapacityError, match=r"conv1\.bias: must fit an int32 accumulator, got"):
        constant_digits(np.full(16, 1 << 31, np.int64), default_config, "conv1")


def test_byte_planes_join() -> None:
    values = np.array([0, 1, -1, 127, -128, 1 << 30, -(1 << 31)], np.int32)
    planes = values.view(np.uint8).reshape(-1, 4).T
    np.testing.assert_array_equal(join_byte_planes(planes), values)


def test_diagonal_weight(default_config: VTAConfig) -> None:
    np.testing.assert_array_equal(diagonal_weight(64, default_config), 64 * np.eye(16, dtype=int))


def test_borders_around_tensors() -> None:
    border = Border(1, 0, 2, 3, -128)
    assert border.around((2, 5, 7, 4)) == (2, 5, 10, 7)
    assert border.joined(Border(0, 4, 1, 1, -128)) == (1, 4, 2, 3, -128)
    assert not border.empty and NO_BORDER.empty and Border(value=-128).empty
