"""Quantize a float model: the passes in their usual order, for callers without one of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from relay_passes.choose_scales import ProfiledScales, ScaleChooser, SingleScale
from relay_passes.fold_batch_norm import FoldBatchNorm, FoldConstants, NameTensors
from relay_passes.fuse_conv_relu import FuseConvRelu
from relay_passes.graph import Module
from relay_passes.params import TensorProfile
from relay_passes.quantize import NearestRounder, Quantize, WeightRounder
from relay_passes.requantize import Requantize


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
    """

    chooser: ScaleChooser = field(default_factory=ProfiledScales)
    rounder: WeightRounder = field(default_factory=NearestRounder)
    fuse: bool = True


#: The variants that reports compare, by name.
VARIANTS: Final[dict[str, QuantOptions]] = {
    "single_scale": QuantOptions(chooser=SingleScale()),
    "profiled": QuantOptions(fuse=False),
    "profiled_fused": QuantOptions(),
}


def prepare(mod: Module) -> Module:
    """Fold constants and BatchNorm, then name the tensors: the float module to profile."""
    return NameTensors()(FoldBatchNorm()(FoldConstants()(mod)))


def quantize_model(
    mod: Module, profiles: Mapping[str, TensorProfile], options: QuantOptions | None = None
) -> Module:
    """Return the integer module of a prepared float module.

    Parameters
    ----------
    mod : IRModule
        As `prepare` returned it.
    profiles : dict[str, TensorProfile]
        As `profiling.profile` returned them for `mod`; `SingleScale` needs none.
    options : QuantOptions, optional
        Default: profiled power-of-two scales, fused.

    Raises
    ------
    CalibrationError
        When a tensor was not profiled.
    CapacityError
        When an accumulator or a bias may leave int32.
    """
    options = options or QuantOptions()
    scales = options.chooser(mod, profiles)
    quantized = Quantize(scales=scales, rounder=options.rounder)(mod)
    if options.fuse:
        quantized = FuseConvRelu()(quantized)
    return Requantize()(quantized)
