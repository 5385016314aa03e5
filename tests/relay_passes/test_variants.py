"""The table of variants: names once, needs as the options' parts declare them, no TVM."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from relay_passes.calibration.observers import MeanSquare
from relay_passes.float_model.equalize_layers import EqualizeLayers
from relay_passes.float_model.permute_channels import PermuteChannels
from relay_passes.quant_options import QuantOptions
from relay_passes.rounding.nearest import GivenWeights, NearestRounder
from relay_passes.rounding.second_order import SecondOrderRounder
from relay_passes.scales.bit_widths import UniformWidths, Widths
from relay_passes.scales.block_scales import BlockScales
from relay_passes.scales.power_of_two import ProfiledScales
from relay_passes.scales.single_scale import SingleScale
from relay_passes.variants import (
    ALTERNATIVES,
    FORMS,
    KEPT,
    STAND_INS,
    STEPS,
    STOCK_RELAY,
    TABLE,
    VARIANTS,
    ZERO_SHOT_OF,
    Variant,
)

QUANTIZED = VARIANTS | STEPS | FORMS


def test_every_name_stands_once() -> None:
    names = [v.name for v in TABLE]
    assert len(set(names)) == len(names)
    assert {STOCK_RELAY, *QUANTIZED, *ZERO_SHOT_OF, *KEPT} == set(names)
    assert {*ZERO_SHOT_OF.values()} <= {*VARIANTS}
    ranks = [v.rank for v in TABLE if v.role in ("report", "extra", "kept")]
    assert sorted(ranks) == list(range(len(ranks)))


def test_alternatives_are_known() -> None:
    assert all(name == forms[0] for name, forms in ALTERNATIVES.items())
    assert {f for forms in ALTERNATIVES.values() for f in forms} <= set(QUANTIZED)
    assert {*STAND_INS, *STAND_INS.values()} <= set(QUANTIZED)


@pytest.mark.parametrize("variant", QUANTIZED.values(), ids=lambda v: v.name)
def test_a_row_says_what_its_parts_require(variant: Variant) -> None:
    assert variant.needs == variant.options.needs
    assert variant.options == variant.options  # moments are kept by equal passes


def test_what_parts_require() -> None:
    assert SingleScale().needs == NearestRounder().needs == frozenset()
    assert GivenWeights(weights={}).needs == PermuteChannels().needs == frozenset()
    assert ProfiledScales().needs == BlockScales().needs == {"profiles"}
    assert BlockScales(per_channel=True).needs == {"profiles", "shr_register"}
    assert SecondOrderRounder().needs == {"moments"}
    assert EqualizeLayers().needs == {"images"}


def test_options_require_what_their_parts_do() -> None:
    assert QuantOptions(chooser=SingleScale()).needs == frozenset()
    assert QuantOptions(correct_bias=True).needs == {"profiles", "moments"}
    whole = QuantOptions(
        chooser=BlockScales(per_channel=True),
        rounder=SecondOrderRounder(),
        passes=(EqualizeLayers(),),
    )
    assert whole.needs == {"profiles", "shr_register", "moments", "images"}
    assert whole.learns and whole.capabilities == {"shr_register"}
    assert not QuantOptions().learns and not QuantOptions().capabilities


def test_parts_without_blocks_stay_as_they_are() -> None:
    for part in (SingleScale(), EqualizeLayers(), GivenWeights(weights={})):
        assert part.for_block(32) is part
    assert ProfiledScales().for_block(32) == ProfiledScales(block=32)
    assert NearestRounder().for_block(32) == NearestRounder(block=32)


def test_recipes() -> None:
    assert VARIANTS["best"].options == QuantOptions(
        chooser=BlockScales(pair=True),
        rounder=SecondOrderRounder(),
        passes=(PermuteChannels(),),
        correct_bias=True,
        zero_points=True,
    )
    assert STEPS["best_symmetric"].options == replace(VARIANTS["best"].options, zero_points=False)
    full = {name for name, v in QUANTIZED.items() if v.options.zero_points}
    assert full >= {"best", "fine_residuals", "dyadic", "per_channel", "w4a8", "w4a4", "mixed"}
    assert not full & {"single_scale", "profiled", "profiled_fused", "per_tensor", "mean_square"}
    assert VARIANTS["w4a8"].options.widths == UniformWidths(
        inner=Widths(weight_bits=4), ends=Widths()
    )
    narrow = Widths(weight_bits=4, activation_bits=4)
    assert VARIANTS["w4a4"].options.widths == UniformWidths(inner=narrow, ends=Widths())
    assert VARIANTS["w4a4"].options.chooser == VARIANTS["w4a8"].options.chooser
    assert FORMS["per_tensor_nearest"].options == QuantOptions(
        chooser=ProfiledScales(observer=MeanSquare(power_of_two=True)), passes=(EqualizeLayers(),)
    )
    assert not VARIANTS["single_scale"].calibrated and VARIANTS["profiled"].calibrated


def test_names_come_without_tvm() -> None:
    code = "import relay_passes.variants, sys; assert 'tvm' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
