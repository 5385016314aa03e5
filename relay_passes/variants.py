"""The variants of quantization, each a set of options, and the forms that are tried for them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from relay_passes.calibration.observers import KLDivergence, MeanSquare, MovingAverage, Percentile
from relay_passes.float_model.equalize_layers import EqualizeLayers
from relay_passes.float_model.permute_channels import PermuteChannels
from relay_passes.graph import GraphPass
from relay_passes.rounding.nearest import NearestRounder, WeightRounder
from relay_passes.rounding.second_order import SecondOrderRounder
from relay_passes.scales.block_scales import BlockScales
from relay_passes.scales.power_of_two import ProfiledScales
from relay_passes.scales.scales import ScaleChooser
from relay_passes.scales.single_scale import SingleScale

_POWERS_OF_TWO: Final = ProfiledScales(observer=MeanSquare(power_of_two=True))
#: Output scales within an octave, and shifts that clip the largest weights: with 4 bits that is
#: worth 9 points of agreement, with 8 bits 0.1 dB. Pairs have no bits to spare then: with 4 they
#: cost 2 points.
_SEARCHED: Final = BlockScales(factors=tuple(2.0 ** (k / 8) for k in range(-4, 5)), clip=1)
#: Multipliers of two ones: where there is no MUL each costs 6 cycles a vector.
_FEW_ONES: Final = BlockScales(dyadic=True, multipliers=(4, 5, 6))
#: Forms and what tells of a large network which of them to make: the same rounded to nearest, in a
#: hundredth of the time.
STAND_INS: Final = {"per_tensor": "per_tensor_nearest", "per_tensor_ordered": "mean_square"}
#: What a variant may become where its own steps do not pay, itself first, the others in the order
#: of what they cost.
ALTERNATIVES: Final[dict[str, tuple[str, ...]]] = {
    "per_tensor": ("per_tensor", "profiled_fused", "per_tensor_ordered"),
    "best": (
        "best",
        "profiled_fused",
        "fine_residuals",
        "per_tensor_ordered",
        "per_tensor",
        "dyadic",
    ),
    "dyadic": ("dyadic", "best", "profiled_fused"),
    "w4a8": ("w4a8", "w4a8_plain_scales"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantOptions:
    """How a model is quantized.

    Parameters
    ----------
    chooser : ScaleChooser
        Chooses every tensor's and weight's scale.
    rounder : WeightRounder
        Rounds the weights.
    fuse : bool
        Whether conv+ReLU is fused (S_y -> S_a).
    passes : tuple[GraphPass, ...]
        Run on the float module first; they must keep the tensors' names and the results.
    correct_bias : bool
        Whether biases make up for the mean error of rounded weights.
    dyadic : bool
        Whether accumulators are multiplied by b / 2^c.
    block : int
        Output channels that share a scale, where channels do not all; see `for_block`.
    """

    chooser: ScaleChooser = field(default_factory=ProfiledScales)
    rounder: WeightRounder = field(default_factory=NearestRounder)
    fuse: bool = True
    passes: tuple[GraphPass, ...] = ()
    correct_bias: bool = False
    dyadic: bool = False
    block: int = 16

    def for_block(self, block: int) -> QuantOptions:
        """Return the same options for a machine whose shifts serve `block` output channels."""
        return replace(
            self,
            chooser=_with_block(self.chooser, block),
            rounder=_with_block(self.rounder, block),
            passes=tuple(_with_block(step, block) for step in self.passes),
            block=block,
        )

    @property
    def learns(self) -> bool:
        """Whether calibration images are needed besides profiles."""
        return self.correct_bias or isinstance(self.rounder, SecondOrderRounder)

    @property
    def needs(self) -> frozenset[str]:
        """The capabilities without which layers stay on the host."""
        per_channel = getattr(self.chooser, "per_channel", False)
        return frozenset({"shr_register"} if per_channel else ())

    @property
    def rescales(self) -> bool:
        """Whether passes scale channels, so that the module's own profiles do not hold."""
        return any(isinstance(step, EqualizeLayers) for step in self.passes)


def _with_block(part: Any, block: int) -> Any:
    """Return a frozen part of the options with its field `block`, if it has one, replaced."""
    return replace(part, block=block) if hasattr(part, "block") else part


_LEARNED: Final = QuantOptions(rounder=SecondOrderRounder(), correct_bias=True)


_ORDERED: Final = replace(_LEARNED, passes=(PermuteChannels(),))


#: The variants that reports compare, by name, each better than the one before; then others.
VARIANTS: Final[dict[str, QuantOptions]] = {
    "single_scale": QuantOptions(chooser=SingleScale()),
    "profiled": QuantOptions(fuse=False),
    "profiled_fused": QuantOptions(),
    "per_tensor": replace(_LEARNED, chooser=_POWERS_OF_TWO, passes=(EqualizeLayers(),)),
    "best": replace(_ORDERED, chooser=BlockScales(pair=True)),
    "dyadic": replace(_ORDERED, chooser=_FEW_ONES, dyadic=True),
    "per_channel": replace(_LEARNED, chooser=BlockScales(per_channel=True)),
    "w4a8": replace(_ORDERED, chooser=replace(_SEARCHED, weight_bits=4)),
}


#: Steps between the variants and what they are measured against, for the ablation.
STEPS: Final[dict[str, QuantOptions]] = {
    "moving_average": QuantOptions(chooser=ProfiledScales(observer=MovingAverage())),
    "percentile": QuantOptions(chooser=ProfiledScales(observer=Percentile())),
    "kl_divergence": QuantOptions(chooser=ProfiledScales(observer=KLDivergence())),
    "mean_square": QuantOptions(chooser=_POWERS_OF_TWO),
    "mean_square_unfused": QuantOptions(chooser=_POWERS_OF_TWO, fuse=False),
    "equalized": QuantOptions(passes=(EqualizeLayers(),)),
    "per_tensor_unfused": replace(_LEARNED, chooser=_POWERS_OF_TWO, fuse=False),
    "per_tensor_fused": replace(_LEARNED, chooser=_POWERS_OF_TWO),
    "block_scales": QuantOptions(chooser=BlockScales()),
    "ordered_channels": QuantOptions(chooser=BlockScales(), passes=(PermuteChannels(),)),
    "corrected_bias": replace(_ORDERED, chooser=BlockScales(), rounder=NearestRounder()),
    "separate_downsample": replace(_ORDERED, chooser=BlockScales()),
    "fine_residuals": replace(_ORDERED, chooser=BlockScales(fine_residuals=True)),
    "dyadic_any": replace(_ORDERED, chooser=BlockScales(dyadic=True), dyadic=True),
    "searched_scales": replace(_ORDERED, chooser=_SEARCHED),
    "w4a8_nearest": replace(VARIANTS["w4a8"], rounder=NearestRounder(), correct_bias=False),
    "w4a8_corrected_bias": replace(VARIANTS["w4a8"], rounder=NearestRounder()),
    "w4a8_plain_scales": replace(_ORDERED, chooser=BlockScales(weight_bits=4)),
}


#: Forms that serve as alternatives only. Where one scale serves a tensor, order changes nothing but
#: what the moments are shared with.
FORMS: Final[dict[str, QuantOptions]] = {
    "per_tensor_ordered": replace(_ORDERED, chooser=_POWERS_OF_TWO),
    "per_tensor_nearest": QuantOptions(chooser=_POWERS_OF_TWO, passes=(EqualizeLayers(),)),
}
