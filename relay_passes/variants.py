"""The variants of quantization: one table with options, label and requirements.

The options of a row are created on demand, because TVM takes seconds to import and the command line
needs only the names.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

from relay_passes.requirements import (
    CAPABILITIES,
    IMAGES,
    MOMENTS,
    NOTHING,
    PICTURES,
    PROFILES,
    SHR_REGISTER,
    Need,
)

if TYPE_CHECKING:
    from relay_passes.quant_options import QuantOptions
    from relay_passes.scales.bit_widths import UniformWidths
    from relay_passes.scales.kept import KeptModel

_LEARNED: Final = PROFILES | MOMENTS


class _Parts:
    """What options are made of."""

    def __init__(self) -> None:
        from relay_passes.calibration import observers
        from relay_passes.float_model.equalize_layers import EqualizeLayers
        from relay_passes.float_model.permute_channels import PermuteChannels
        from relay_passes.learning.options import BlockLearner
        from relay_passes.quant_options import QuantOptions
        from relay_passes.rounding.nearest import NearestRounder
        from relay_passes.rounding.second_order import SecondOrderRounder
        from relay_passes.scales.bit_widths import UniformWidths, Widths
        from relay_passes.scales.block_scales import BlockScales
        from relay_passes.scales.power_of_two import ProfiledScales
        from relay_passes.scales.single_scale import SingleScale

        self.plain = QuantOptions
        self.single, self.profiled, self.blocks = SingleScale, ProfiledScales, BlockScales
        #: The smallest power of two at which the largest value fits.
        self.largest = ProfiledScales(observer=observers.MaxAbs())
        self.observers, self.nearest = observers, NearestRounder()
        self._second_order = SecondOrderRounder()
        self.learner = BlockLearner()
        self.w4a8 = UniformWidths(inner=Widths(weight_bits=4))
        self.w4a8_ends = UniformWidths(inner=Widths(weight_bits=4), ends=Widths())
        self.w4a4 = UniformWidths(inner=Widths(weight_bits=4, activation_bits=4), ends=Widths())
        self.equalized, self.ordered = (EqualizeLayers(),), (PermuteChannels(),)
        self.mean_square = ProfiledScales(observer=observers.MeanSquare(power_of_two=True))

    def learned(self, **options: Any) -> QuantOptions:
        """Return options with weights rounded by second order and corrected biases."""
        usual: dict[str, Any] = {"rounder": self._second_order, "correct_bias": True}
        return self.plain(**usual | options)

    def learned_ordered(self, **options: Any) -> QuantOptions:
        """Return the same with ordered channels."""
        return self.learned(**{"passes": self.ordered} | options)

    def full(self, **options: Any) -> QuantOptions:
        """Return the same with zero points: tensors that are never negative use all integers."""
        return self.learned_ordered(**{"zero_points": True} | options)

    def searched(self) -> Any:
        """Return a chooser of output scales within an octave, that clips the largest weights.

        With 4 bits that is worth 9 points of agreement, with 8 bits 0.1 dB. Pairs have no bits to
        spare then: with 4 they cost 2 points.
        """
        factors = tuple(2.0 ** (k / 8) for k in range(-4, 5))
        return self.blocks(factors=factors, clip=1)

    def searched_bits(self, widths: UniformWidths, **options: Any) -> QuantOptions:
        """Return options of fewer bits, with searched scales and all that is learned."""
        return self.full(**{"chooser": self.searched(), "widths": widths} | options)

    def few_bits(self, widths: UniformWidths, **options: Any) -> QuantOptions:
        """Return the same with multipliers b / 2^c."""
        return self.searched_bits(
            widths, **{"chooser": self.searched_few_ones(), "dyadic": True} | options
        )

    def searched_few_ones(self) -> Any:
        """Return a chooser of both: finer weight scales are worth 2 points with 4-bit weights."""
        return replace(self.searched(), dyadic=True, multipliers=(4, 5, 6))

    def few_ones(self) -> Any:
        """Return a chooser of multipliers with two 1 bits: 6 cycles per vector without MUL."""
        return self.blocks(dyadic=True, multipliers=(4, 5, 6))


_parts: Final = cache(_Parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One row of the table.

    Parameters
    ----------
    name : str
    about : str
        What it is, in a few words for users; of those that can be named.
    label : str
        What it changes, for the ablation table; "": not in that table.
    recipe : callable, optional
        Creates its options; None for stock Relay's quantization, which has none.
    needs : frozenset of {"profiles", "moments", "images", "shr_register"}
        What its options require.
    role : {"report", "extra", "step", "form", "kept"}
        Measured by default; measured only if named; a step of the ablation; only a candidate that
        may replace another variant; of models that are quantized already.
    main : bool
        Also measured by default for users' own models.
    rank : int
        The variant with the lowest rank is deployed. For the roles report and extra.
    alternatives : tuple of str
        Candidate configurations that may replace it, itself first, in the order of their cost.
    zero_shot_of : str
        Not a configuration but another calibration of one: on images distilled from the model.
    stand_in : str
        The same with rounding to nearest, which takes a hundredth of the time. For a large network
        it decides whether this candidate is computed.
    """

    name: str
    about: str = ""
    label: str = ""
    recipe: Callable[[_Parts], QuantOptions] | None
    needs: frozenset[Need] = PROFILES
    role: Literal["report", "extra", "step", "form", "kept"] = "step"
    main: bool = False
    rank: int = 0
    alternatives: tuple[str, ...] = ()
    stand_in: str = ""
    zero_shot_of: str = ""

    @property
    def options(self) -> QuantOptions:
        """Its options, equal whenever they are asked for."""
        assert self.recipe is not None, f"{self.name} is no variant of these passes"
        return self.recipe(_parts())

    @property
    def calibrated(self) -> bool:
        """Whether it depends on calibration images."""
        return bool(self.needs - CAPABILITIES)


#: The variant that stock Relay's quantization makes, its first convolution in float.
STOCK_RELAY: Final = "stock_relay"

#: The variant whose layers have different bits, chosen for a machine and limits.
MIXED: Final = "mixed"

#: The variants that keep the integers of a model that is quantized already (QDQ): with shifts, and
#: with multipliers b / 2^c. Their options are made of the model's own numbers.
KEEP: Final = "keep"
KEEP_DYADIC: Final = "keep_dyadic"

#: All variants, in the order of the report and of the ablation.
TABLE: Final[tuple[Variant, ...]] = (
    Variant(
        name=STOCK_RELAY,
        about="TVM 0.9's relay.quantize: one global scale, the first convolution in float",
        label="stock Relay: one global scale, 1/16",
        recipe=None,
        needs=NOTHING,
        role="report",
        main=True,
        rank=7,
    ),
    Variant(
        name="single_scale",
        about="one scale for all activations",
        recipe=lambda p: p.plain(chooser=p.single()),
        needs=NOTHING,
        role="report",
        main=True,
        rank=6,
    ),
    Variant(
        name="profiled",
        about="per-tensor scales from calibration",
        label="scales from the largest value, not fused",
        recipe=lambda p: p.plain(chooser=p.largest, fuse=False),
        role="report",
        main=True,
        rank=5,
    ),
    Variant(
        name="profiled_fused",
        about="profiled, with each convolution and its ReLU quantized once",
        label="scales from the largest value, conv and ReLU fused",
        recipe=lambda p: p.plain(chooser=p.largest),
        role="report",
        main=True,
        rank=4,
    ),
    Variant(
        name="equalized",
        label="+ cross-layer equalization",
        recipe=lambda p: p.plain(chooser=p.largest, passes=p.equalized),
        needs=PROFILES | IMAGES,
    ),
    Variant(
        name="moving_average",
        label="moving-average scales, fused",
        recipe=lambda p: p.plain(chooser=p.profiled(observer=p.observers.MovingAverage())),
    ),
    Variant(
        name="percentile",
        label="99.99th-percentile scales, fused",
        recipe=lambda p: p.plain(chooser=p.profiled(observer=p.observers.Percentile())),
    ),
    Variant(
        name="kl_divergence",
        label="least-KL-divergence scales, fused",
        recipe=lambda p: p.plain(chooser=p.profiled(observer=p.observers.KLDivergence())),
    ),
    Variant(
        name="mean_square_unfused",
        label="least-squared-error scales, not fused",
        recipe=lambda p: p.plain(chooser=p.mean_square, fuse=False),
    ),
    Variant(
        name="mean_square",
        label="least-squared-error scales, fused",
        recipe=lambda p: p.plain(chooser=p.mean_square),
    ),
    Variant(
        name="per_tensor_unfused",
        label="+ GPTQ rounding, biases corrected; not fused",
        recipe=lambda p: p.learned(chooser=p.mean_square, fuse=False),
        needs=_LEARNED,
    ),
    Variant(
        name="per_tensor_fused",
        label="+ GPTQ rounding, biases corrected; fused",
        recipe=lambda p: p.learned(chooser=p.mean_square),
        needs=_LEARNED,
    ),
    Variant(
        name="per_tensor",
        about="one power-of-two scale per tensor, GPTQ rounding; runs on every VTA",
        label="+ cross-layer equalization",
        recipe=lambda p: p.learned(chooser=p.mean_square, passes=p.equalized),
        needs=_LEARNED | IMAGES,
        role="report",
        rank=1,
        alternatives=("per_tensor", "profiled_fused", "per_tensor_ordered"),
        stand_in="per_tensor_nearest",
    ),
    Variant(  # where one scale serves a tensor, order changes nothing but what shares moments
        name="per_tensor_ordered",
        recipe=lambda p: p.learned_ordered(chooser=p.mean_square),
        needs=_LEARNED,
        role="form",
        stand_in="mean_square",
    ),
    Variant(
        name="per_tensor_nearest",
        recipe=lambda p: p.plain(chooser=p.mean_square, passes=p.equalized),
        needs=PROFILES | IMAGES,
        role="form",
    ),
    Variant(
        name="block_scales",
        label="one shift per block, any activation scale",
        recipe=lambda p: p.plain(chooser=p.blocks()),
    ),
    Variant(
        name="ordered_channels",
        label="+ channels reordered",
        recipe=lambda p: p.plain(chooser=p.blocks(), passes=p.ordered),
    ),
    Variant(
        name="corrected_bias",
        label="+ biases corrected",
        recipe=lambda p: p.learned_ordered(chooser=p.blocks(), rounder=p.nearest),
        needs=_LEARNED,
    ),
    Variant(
        name="separate_downsample",
        label="+ GPTQ rounding",
        recipe=lambda p: p.learned_ordered(chooser=p.blocks()),
        needs=_LEARNED,
    ),
    Variant(
        name="best_symmetric",
        label="+ downsample in the same accumulator",
        recipe=lambda p: p.learned_ordered(chooser=p.blocks(pair=True)),
        needs=_LEARNED,
    ),
    Variant(
        name="best",
        about="the most accurate with shifts alone: one shift per block, GPTQ rounding",
        label="+ zero points: [-128, 127] after ReLU",
        recipe=lambda p: p.full(chooser=p.blocks(pair=True)),
        needs=_LEARNED,
        role="report",
        main=True,
        rank=0,
        alternatives=(
            "best",
            "profiled_fused",
            "fine_residuals",
            "per_tensor_ordered",
            "per_tensor",
            "dyadic",
        ),
    ),
    Variant(
        name="fine_residuals",
        label="as best, downsample apart, finer residual multipliers",
        recipe=lambda p: p.full(chooser=p.blocks(fine_residuals=True)),
        needs=_LEARNED,
    ),
    Variant(
        name="searched_scales",
        label="as best, downsample apart, scales searched",
        recipe=lambda p: p.full(chooser=p.searched()),
        needs=_LEARNED,
    ),
    Variant(
        name="dyadic_any",
        label="multipliers b / 2^c, b of up to 15 bits",
        recipe=lambda p: p.full(chooser=p.blocks(dyadic=True), dyadic=True),
        needs=_LEARNED,
    ),
    Variant(
        name="dyadic",
        about="as best, with multipliers b / 2^c of two 1 bits; takes more cycles",
        label="multipliers b / 2^c, b with two 1 bits",
        recipe=lambda p: p.full(chooser=p.few_ones(), dyadic=True),
        needs=_LEARNED,
        role="report",
        rank=2,
        alternatives=("dyadic", "best", "profiled_fused"),
    ),
    Variant(
        name="w4a8_plain_scales",
        label="as best, 4-bit weights",
        recipe=lambda p: p.full(chooser=p.blocks(), widths=p.w4a8),
        needs=_LEARNED,
    ),
    Variant(
        name="w4a8_nearest",
        label="4-bit weights, scales searched, rounded to nearest",
        recipe=lambda p: p.full(
            chooser=p.searched(), rounder=p.nearest, correct_bias=False, widths=p.w4a8
        ),
    ),
    Variant(
        name="w4a8_corrected_bias",
        label="+ biases corrected",
        recipe=lambda p: p.searched_bits(p.w4a8, rounder=p.nearest),
        needs=_LEARNED,
    ),
    Variant(
        name="w4a8_shifts",
        label="+ GPTQ rounding",
        recipe=lambda p: p.searched_bits(p.w4a8),
        needs=_LEARNED,
    ),
    Variant(
        name="w4a8_ends",
        label="+ first and last layer at 8 bits",
        recipe=lambda p: p.searched_bits(p.w4a8_ends),
        needs=_LEARNED,
    ),
    Variant(
        name="w4a8",
        about="4-bit weights, 8-bit activations",
        label="+ multipliers b / 2^c",
        recipe=lambda p: p.few_bits(p.w4a8_ends),
        needs=_LEARNED,
        role="report",
        rank=8,
        alternatives=("w4a8", "w4a8_ends"),
    ),
    Variant(  # its bits are for others to choose: they depend on the machine
        name=MIXED,
        about="4 or 8 bits, chosen for each layer within a limit",
        recipe=lambda p: p.full(chooser=p.searched()),
        needs=_LEARNED,
        role="report",
        rank=10,
    ),
    Variant(
        name="w4a4",
        about="4-bit weights and activations",
        label="+ 4-bit activations",
        recipe=lambda p: p.few_bits(p.w4a4),
        needs=_LEARNED,
        role="extra",
        rank=9,
    ),
    Variant(
        name="w4a8_learned",
        about="w4a8, weights learned block by block; needs torch",
        label="w4a8, learned block by block",
        recipe=lambda p: p.few_bits(p.w4a8_ends, learner=p.learner),
        needs=_LEARNED | PICTURES,
        role="extra",
        rank=13,
    ),
    Variant(
        name="w4a4_learned",
        about="w4a4, weights learned block by block; needs torch",
        label="w4a4, learned block by block",
        recipe=lambda p: p.few_bits(p.w4a4, learner=p.learner),
        needs=_LEARNED | PICTURES,
        role="extra",
        rank=14,
    ),
    Variant(
        name="per_channel",
        about="as best, one shift per channel; for machines with shr_register",
        label="one shift per channel, needs shr_register",
        recipe=lambda p: p.full(chooser=p.blocks(per_channel=True), passes=()),
        needs=_LEARNED | SHR_REGISTER,
        role="extra",
        rank=3,
    ),
    Variant(
        name="best_zero_shot",
        about="best, calibrated without data; needs torch",
        label="best, calibrated without data",
        recipe=None,
        needs=NOTHING,
        role="report",
        rank=11,
        zero_shot_of="best",
    ),
    Variant(
        name="w4a8_zero_shot",
        about="w4a8, calibrated without data; needs torch",
        label="w4a8, calibrated without data",
        recipe=None,
        needs=NOTHING,
        role="extra",
        rank=12,
        zero_shot_of="w4a8",
    ),
    Variant(
        recipe=None,
        name=KEEP,
        about="the integers of a model that is quantized already, with shifts",
        needs=NOTHING,
        role="kept",
        rank=15,
    ),
    Variant(
        recipe=None,
        name=KEEP_DYADIC,
        about="the same integers, with multipliers b / 2^c",
        needs=NOTHING,
        role="kept",
        rank=16,
    ),
)


def kept_options(name: str, model: KeptModel) -> QuantOptions:
    """Return the options of a variant that keeps the integers of a quantized model.

    Parameters
    ----------
    name : {"keep", "keep_dyadic"}
    model : KeptModel
        By the names of the float module that is quantized.
    """
    from relay_passes.quant_options import QuantOptions
    from relay_passes.scales.kept_scales import KeptScales

    dyadic = name == KEEP_DYADIC
    return QuantOptions(
        chooser=KeptScales(model=model, dyadic=dyadic), dyadic=dyadic, zero_points=True
    )


def _rows(*roles: str) -> dict[str, Variant]:
    """Return the rows of these roles that have options, by name."""
    return {v.name: v for v in TABLE if v.role in roles and v.recipe is not None}


#: Variants that users can name; steps of the ablation; candidates that only replace others.
VARIANTS: Final = _rows("report", "extra")
STEPS: Final = _rows("step")
FORMS: Final = _rows("form")
#: Everything that has options.
RECIPES: Final = ChainMap(VARIANTS, STEPS, FORMS)
ALTERNATIVES: Final = {v.name: v.alternatives for v in TABLE if v.alternatives}
#: Variants that are calibrated on distilled images, and what they are otherwise.
ZERO_SHOT_OF: Final = {v.name: v.zero_shot_of for v in TABLE if v.zero_shot_of}
#: Variants of models that are quantized already.
KEPT: Final = tuple(v.name for v in TABLE if v.role == "kept")
#: Candidates and their stand-ins, which are rounded to nearest.
STAND_INS: Final = {v.name: v.stand_in for v in TABLE if v.stand_in}
