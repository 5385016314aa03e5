"""Options: what the parts require together, and the machine they are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pytest

from relay_passes.float_model.equalize_layers import EqualizeLayers
from relay_passes.float_model.permute_channels import PermuteChannels
from relay_passes.quant_options import QuantOptions
from relay_passes.requirements import Need
from relay_passes.rounding.nearest import NearestRounder
from relay_passes.scales.single_scale import SingleScale


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


def test_every_part_is_told_the_block() -> None:
    options = QuantOptions(
        chooser=SingleScale(),
        rounder=NearestRounder(block=16),
        passes=(PermuteChannels(), EqualizeLayers()),
    ).for_block(4)
    assert options.block == 4 and options.rounder == NearestRounder(block=4)
    assert options.passes == (PermuteChannels(block=4), EqualizeLayers())
    assert options.chooser == SingleScale()
