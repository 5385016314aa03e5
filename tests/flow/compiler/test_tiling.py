"""Tilings fit, cover everything, and are the cheapest by their own cost."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow.compiler.cost import Tiling, cost
from flow.compiler.lower import lower
from flow.compiler.shapes import Capacity
from flow.compiler.tiling import choose_tiling, extents, fastest, is_candidate, shortlist
from relay_passes.partition.layers import TensorSpec
from tests.flow.compiler.networks import conv, max_pool, resnet_layer, subgraph
from vta_config.errors import CapacityError
from vta_config.hardware import VTAConfig, preset_names
from vta_config.timing import PROFILES


@pytest.mark.parametrize("preset", preset_names())
@pytest.mark.parametrize(("channels", "size"), [(64, 56), (128, 28), (256, 14), (512, 7)])
def test_resnet_layers_fit(preset: str, channels: int, size: int) -> None:
    config = VTAConfig.load(preset)
    capacity = Capacity.of(config, resident_inp=1, resident_wgt=2)
    shape = resnet_layer(channels, size, config)
    tiling = choose_tiling(shape, capacity)
    assert tiling.inp_elems(shape) <= capacity.inp
    assert tiling.wgt_elems(shape) <= capacity.wgt
    assert tiling.acc_elems <= capacity.acc
    assert tiling.oc_w <= tiling.oc <= shape.oc and tiling.ic <= shape.ic


def test_each_generation_has_tilings_of_its_own() -> None:
    chosen, estimates = [], []
    for timing in PROFILES:
        config = replace(VTAConfig.load("default"), timing=timing)
        capacity = Capacity.of(config, resident_inp=1, resident_wgt=2)
        shape = resnet_layer(256, 8, config, kernel=1)
        chosen.append(choose_tiling(shape, capacity))
        estimates.append(cost(shape, chosen[-1], capacity).cycles)
    assert len(set(chosen)) == len(PROFILES)
    # GEMM steps alone: one a cycle, four cycles each, one a cycle.
    steps = 16 * 16 * 64
    assert [e // steps for e in estimates] == [1, 5, 1]


@settings(max_examples=30, deadline=None)
@given(total=st.integers(1, 300))
def test_extents_cut_evenly(total: int) -> None:
    values = extents(total)
    assert values[0] == total and values[-1] == 1
    for value in values:
        assert -(-total // -(-total // value)) == value


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_all_at_once_is_one_by_one(data: st.DataObject) -> None:
    """The choice is that of a plain search, and so are all costs."""
    number = lambda low, high: data.draw(st.integers(low, high))  # noqa: E731
    config = VTAConfig.load(data.draw(st.sampled_from(preset_names())))
    config = replace(config, timing=data.draw(st.sampled_from(sorted(PROFILES))))
    shape = replace(
        resnet_layer(config.block, number(1, 9), config, kernel=data.draw(st.sampled_from([1, 3]))),
        oc=number(1, 6),
        ic=number(1, 6),
        residuals=number(0, 1),
        constants=number(0, 2),
        planes=number(1, 2),
        stored_rows=data.draw(st.booleans()),
    )
    if data.draw(st.booleans()):
        down = replace(shape, kernel=(1, 1), padding=(0, 0), ic=number(1, 4), residuals=0)
        summands = (replace(down, base=1), replace(shape, exponent=1, input_plane=1, residuals=0))
        shape = replace(shape, summands=summands[: number(1, 2)])
    capacity = replace(
        Capacity.of(config, resident_inp=1, resident_wgt=2),
        inp=number(1, 400),
        wgt=number(1, 300),
        acc=number(1, 300),
        uop=number(4, 400),
    )
    plain = []
    for oh, ow, oc, ic in product(
        *map(extents, (shape.out_height, shape.out_width, shape.oc, shape.ic))
    ):
        for oc_w, outer in product(extents(oc), (False, True)):
            tiling = Tiling(oc=oc, oh=oh, ow=ow, ic=ic, oc_w=oc_w, oc_outer=outer)
            fits = (
                tiling.acc_elems <= capacity.acc
                and tiling.wgt_elems(shape) <= capacity.wgt
                and tiling.inp_elems(shape) <= tiling.inp_capacity(shape, capacity)
            )
            assert is_candidate(tiling, shape, capacity) == fits
            if fits:
                plain.append((cost(shape, tiling, capacity), tiling))
    if not plain:
        with pytest.raises(CapacityError, match="its smallest tile must fit"):
            choose_tiling(shape, capacity)
        return
    assert choose_tiling(shape, capacity) == fastest(plain)
    all_at_once = dict((tiling, estimate) for estimate, tiling in shortlist(shape, capacity, 10**6))
    assert all_at_once == {tiling: estimate for estimate, tiling in plain}
    assert {type(n) for _, c in all_at_once.items() for n in c.slots} == {int}


def test_nothing_fits() -> None:
    config = VTAConfig.load("small")
    capacity = Capacity.of(config, resident_inp=0, resident_wgt=0)
    with pytest.raises(CapacityError, match="conv: its smallest tile must fit 256 inp, 64 wgt"):
        choose_tiling(resnet_layer(64, 56, config, kernel=31), capacity, "conv")
    shape = replace(resnet_layer(64, 56, config), residuals=1)
    tight = replace(capacity, inp=10)
    with pytest.raises(CapacityError, match="10 inp, 64 wgt, 256 acc elements, got 11, 10 and 1"):
        choose_tiling(shape, tight, "conv")
    full = replace(capacity, wgt=-3)
    with pytest.raises(CapacityError, match="0 wgt.*constants and multipliers that stay fill wgt"):
        choose_tiling(shape, full, "conv")


@pytest.mark.parametrize("pooled", [False, True])
def test_a_chunk_has_no_more_micro_ops_than_the_buffer(pooled: bool) -> None:
    config = replace(VTAConfig.load("small"), log_uop_buff_bytes=7)
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 16, 16, 16), dtype="int8")
    layer = conv(rng, "conv", x, 16, (7, 7), padding=(3, 3, 3, 3))
    layers = (layer, max_pool("narrow", layer, 2, 2, 0)) if pooled else (layer,)
    lower(subgraph(layers, x), config)
