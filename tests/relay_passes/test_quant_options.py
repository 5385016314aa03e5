"""Options: what the parts require together, and the machine they are for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from relay_passes.float_model.equalize_layers import EqualizeLayers
from relay_passes.float_model.permute_channels import PermuteChannels
from relay_passes.quant_options import QuantOptions
from relay_passes.requirements import Need
from relay_passes.rounding.nearest import NearestRounder
from relay_passes.scales.bit_widths import Limits, Widths
from relay_passes.scales.single_scale import SingleScale
from vta_config import VTAConfig


@dataclass(frozen=True)
class Chooser(SingleScale):
    needs: ClassVar[frozenset[Need]] = frozenset({"profiles", "shr_register"})


@pytest.mark.parametrize(
    ("options", "needs"),
    [
        (QuantOptions(chooser=SingleScale()), set()),
        (QuantOptions(chooser=SingleScale(), correct_bias=True), {"moments"}),
        (QuantOptions(chooser=SingleScale(), passes=(EqualizeLayers(),)), {"images"}),
        (QuantOptions(chooser=Chooser()), {"profiles", "shr_register"}),
        (QuantOptions(), {"profiles"}),
    ],
)
def test_needs_are_those_of_all_parts(options: QuantOptions, needs: set[Need]) -> None:
    assert options.needs == needs
    assert options.learns is ("moments" in needs)
    assert options.capabilities == needs & {"shr_register"}


def test_every_part_is_told_the_machine(default_config: VTAConfig) -> None:
    sizes = dict.fromkeys(("log_inp_buff_bytes", "log_wgt_buff_bytes", "log_acc_buff_bytes"), 12)
    narrow = replace(default_config, log_block=2, log_wgt_width=2, **sizes)
    options = QuantOptions(
        chooser=SingleScale(),
        rounder=NearestRounder(block=16),
        passes=(PermuteChannels(), EqualizeLayers()),
    ).for_machine(narrow)
    assert options.block == 4 and options.rounder == NearestRounder(block=4)
    assert options.passes == (PermuteChannels(block=4), EqualizeLayers())
    assert options.chooser == SingleScale()
    assert options.limits == Limits(weight=119) and QuantOptions().limits == Limits()


def test_other_widths_and_nothing_else() -> None:
    options = QuantOptions(chooser=SingleScale()).with_widths({"conv": Widths(weight_bits=4)})
    assert options == QuantOptions(chooser=SingleScale(), widths={"conv": Widths(weight_bits=4)})
