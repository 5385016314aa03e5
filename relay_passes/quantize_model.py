"""Quantize a float model: the passes in their usual order, for callers without one of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from relay_passes.bias_correction import CorrectBias
from relay_passes.choices import LayerProof
from relay_passes.choose_scales import (
    ProfiledScales,
    ScaleChooser,
    Scales,
    SingleScale,
    weight_rows,
)
from relay_passes.equalize_layers import EqualizeLayers
from relay_passes.fold_batch_norm import FoldBatchNorm, FoldConstants, NameTensors
from relay_passes.fuse_conv_relu import FuseConvRelu
from relay_passes.graph import GraphPass, Module, constant, read_graph
from relay_passes.learned_rounding import SecondOrderRounder
from relay_passes.limit_scales import limit_scales, live_profiles
from relay_passes.make_plan import make_plan
from relay_passes.moments import Moments
from relay_passes.observers import KLDivergence, MeanSquare, MovingAverage, Percentile
from relay_passes.params import TensorProfile
from relay_passes.permute_channels import PermuteChannels
from relay_passes.quantize import GivenWeights, NearestRounder, Quantize, WeightRounder
from relay_passes.requantize import Requantize
from relay_passes.search_scales import BlockScales
from vta_config.errors import CalibrationError

#: Measures the moments of a float module's layers on calibration images.
Measure: TypeAlias = Callable[[Module], Mapping[str, Moments]]
#: Profiles a float module on calibration images.
Observe: TypeAlias = Callable[[Module], Mapping[str, TensorProfile]]


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


_POWERS_OF_TWO: Final = ProfiledScales(observer=MeanSquare(power_of_two=True))
_LEARNED: Final = QuantOptions(rounder=SecondOrderRounder(), correct_bias=True)
_ORDERED: Final = replace(_LEARNED, passes=(PermuteChannels(),))

#: Output scales within an octave, and shifts that clip the largest weights: with 4 bits that is
#: worth 9 points of agreement, with 8 bits 0.1 dB. Pairs have no bits to spare then: with 4 they
#: cost 2 points.
_SEARCHED: Final = BlockScales(factors=tuple(2.0 ** (k / 8) for k in range(-4, 5)), clip=1)

#: Multipliers of two ones: where there is no MUL each costs 6 cycles a vector.
_FEW_ONES: Final = BlockScales(dyadic=True, multipliers=(4, 5, 6))

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


def prepare(mod: Module) -> Module:
    """Fold constants and BatchNorm, then name the tensors: the float module to profile."""
    return prepare_with_names(mod)[0]


def prepare_with_names(mod: Module) -> tuple[Module, dict[str, str]]:
    """Return what `prepare` does, and the name in `mod` of each tensor that still has one."""
    folded = FoldBatchNorm()(FoldConstants()(mod))
    named = NameTensors()(folded)
    before, after = (read_graph(m).bindings for m in (folded, named))
    assert len(before) == len(after), "naming keeps every binding"
    return named, {new.var.name: old.var.name for old, new in zip(before, after, strict=True)}


def run_passes(mod: Module, passes: Sequence[GraphPass]) -> Module:
    """Return `mod` after the passes, in order."""
    for step in passes:
        mod = step(mod)
    return mod


def quantize_model(
    mod: Module,
    profiles: Mapping[str, TensorProfile],
    options: QuantOptions | None = None,
    *,
    measure: Measure | None = None,
    observe: Observe | None = None,
    proofs: Mapping[str, LayerProof] | None = None,
    passed: Module | None = None,
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
    measure : callable (module) -> dict[str, Moments], optional
        Usually `collect_moments` with the calibration images; for options that learn.
    observe : callable (module) -> dict[str, TensorProfile], optional
        Usually `profile` with the calibration images; for options that scale channels.
    proofs : dict[str, LayerProof], optional
        How each layer learns, as `prove_layers` found; a layer without learns as usual.
    passed : IRModule, optional
        `mod` after the passes of the options, where they ran before.

    Raises
    ------
    CalibrationError
        When a tensor was not profiled, or moments or profiles are needed and cannot be measured.
    """
    options = options or QuantOptions()
    mod = run_passes(mod, options.passes) if passed is None else passed
    if options.rescales:
        if observe is None:
            raise CalibrationError(
                "calibration",
                "must keep its images to profile scaled channels",
                hint="calibrate again with images, or choose a variant without",
            )
        profiles = observe(mod)
    profiles = live_profiles(mod, profiles)
    pairs = getattr(options.chooser, "pair", False)
    scales = limit_scales(
        mod,
        options.chooser(mod, profiles),
        fuse=options.fuse,
        pairs=pairs,
        block=options.block,
    )
    rounder = options.rounder
    if options.learns:
        if measure is None:
            raise CalibrationError(
                "calibration",
                "must keep its images for learned rounding and bias correction",
                hint="calibrate again with images, or choose a variant without",
            )
        moments = measure(mod)
        if isinstance(rounder, SecondOrderRounder):
            rounder = replace(
                rounder,
                moments=moments,
                noise=_input_noise(mod, scales),
                dampings={name: proof.damping for name, proof in (proofs or {}).items()},
            )
        weights = _rounded(mod, scales, rounder)
        rounder = GivenWeights(weights=weights)
        if options.correct_bias:
            harmful = {p.layer for p in (proofs or {}).values() if not p.correct_bias}
            kept = {name: m for name, m in moments.items() if name not in harmful}
            mod = CorrectBias(scales=scales, weights=weights, moments=kept, block=options.block)(
                mod
            )
    plan = make_plan(
        mod,
        scales,
        rounder=rounder,
        fuse=options.fuse,
        dyadic=options.dyadic,
        block=options.block,
    )
    quantized = Quantize(plan=plan, rounder=rounder)(mod)
    if options.fuse:
        quantized = FuseConvRelu()(quantized)
    return Requantize(plan=plan)(quantized)


def _rounded(mod: Module, scales: Scales, rounder: WeightRounder) -> dict[str, NDArray[np.int8]]:
    """Return every layer's rounded weight, one row an output channel."""
    weights = {}
    for binding in read_graph(mod).bindings:
        name = binding.var.name
        if name in scales.weights and constant(binding.value.args[1]) is not None:
            weights[name] = rounder(name, weight_rows(binding.value), scales.weights[name])
    return weights


def _input_noise(mod: Module, scales: Scales) -> dict[str, float]:
    """Return scale² / 12 of every layer's input."""
    return {
        b.var.name: scales.tensors[b.value.args[0].name].scale[0] ** 2 / 12
        for b in read_graph(mod).bindings
        if b.var.name in scales.weights and b.value.args[0].name in scales.tensors
    }
