"""Quantize a float model: the stages from a float module to integers, in their order.

`flow.pipeline` adds the machine's stages to this list; `quantize_model` runs it for callers
without a machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from relay_passes.calibration.moments import LayerMoments
from relay_passes.choose_scales import choose_scales
from relay_passes.float_model.as_sums import AsSums
from relay_passes.float_model.fold_batch_norm import FoldBatchNorm, FoldConstants
from relay_passes.float_model.fold_scales import FoldScales
from relay_passes.float_model.name_tensors import NameTensors
from relay_passes.float_model.pair_extremes import PairExtremes
from relay_passes.float_model.simplify_moves import SimplifyMoves
from relay_passes.float_model.split_phases import SplitPhases
from relay_passes.float_model.spread_maps import SpreadMaps
from relay_passes.graph import GraphPass, Module, constant, read_graph
from relay_passes.integers.fuse_conv_relu import FuseConvRelu
from relay_passes.integers.make_plan import make_plan
from relay_passes.integers.plan import QuantPlan
from relay_passes.integers.quantize import Quantize
from relay_passes.integers.requantize import Requantize
from relay_passes.learning.kept import Kept
from relay_passes.learning.learn import Progress, learn
from relay_passes.operators.calls import weight_rows
from relay_passes.params import TensorProfile, scale_text
from relay_passes.quant_options import QuantOptions
from relay_passes.rounding.bias_correction import CorrectBias
from relay_passes.rounding.nearest import GivenWeights
from relay_passes.scales.scales import Scales
from relay_passes.selection.choices import LayerProof
from relay_passes.stage import After, Rows, Stage, run_stages
from vta_config.errors import CalibrationError

#: Measures the moments of a float module's layers on calibration images.
Measure: TypeAlias = Callable[[Module], LayerMoments]
#: Profiles a float module on calibration images.
Observe: TypeAlias = Callable[[Module], Mapping[str, TensorProfile]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """What the stages hand on.

    Parameters
    ----------
    mod : IRModule
        The float module, then the integer one.
    options : QuantOptions
    profiles : dict[str, TensorProfile]
        Of the tensors of the float module.
    measure, observe : callable, optional
        Look at the calibration images; None where there are none.
    proofs : dict[str, LayerProof]
        How each layer learns; a layer without learns as usual.
    images : callable (), optional
        Returns the calibration images to learn from, float32[1, C, H, W] each; None where there are
        none.
    progress : callable (done, total, what), optional
        Told of the steps of a learner.
    kept : Kept, optional
        Keeps the stages that a learner has finished.
    passed : IRModule, optional
        `mod` after the passes of the options, where they ran before.
    names : dict[str, str]
        The name before folding of each tensor that still has one.
    uncorrected : IRModule, optional
        `mod` before its biases were corrected.
    scales : Scales, optional
        Once chosen.
    moments : dict[str, Moments]
        Of the layers' inputs, once measured.
    weights : dict[str, int8[O, K]]
        Rounded, one row an output channel.
    plan : QuantPlan, optional
        Once made.
    """

    mod: Module
    options: QuantOptions = field(default_factory=QuantOptions)
    profiles: Mapping[str, TensorProfile] = field(default_factory=dict)
    measure: Measure | None = None
    observe: Observe | None = None
    proofs: Mapping[str, LayerProof] = field(default_factory=dict)
    images: Callable[[], Iterable[NDArray[np.float32]]] | None = None
    progress: Progress | None = None
    kept: Kept | None = None
    passed: Module | None = None
    uncorrected: Module | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    scales: Scales | None = None
    moments: LayerMoments = field(default_factory=dict)
    weights: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)
    plan: QuantPlan | None = None

    @property
    def chosen(self) -> Scales:
        """The scales, which must have been chosen."""
        assert self.scales is not None
        return self.scales

    @property
    def planned(self) -> QuantPlan:
        """The plan, which must have been made."""
        assert self.plan is not None
        return self.plan


# ---- the stages ----------------------------------------------------------------------------------
def _fold(state: Quantization) -> Quantization:
    folded = FoldBatchNorm()(FoldConstants()(PairExtremes()(state.mod)))
    folded = AsSums()(SimplifyMoves()(SpreadMaps()(SplitPhases()(folded))))
    folded = FoldScales()(folded)
    named = NameTensors()(folded)
    before, after = (read_graph(m).bindings for m in (folded, named))
    assert len(before) == len(after), "naming keeps every binding"
    pairs = zip(before, after, strict=True)
    return replace(state, mod=named, names={new.var.name: old.var.name for old, new in pairs})


def _profile(state: Quantization) -> Quantization:
    if state.observe is None:
        raise CalibrationError(
            "calibration",
            "must keep its images to profile rescaled channels again",
            hint="calibrate again with images, or choose another variant",
        )
    return replace(state, profiles=state.observe(state.mod))


def _rewrite(state: Quantization) -> Quantization:
    passed = state.passed
    return replace(
        state, mod=run_passes(state.mod, state.options.passes) if passed is None else passed
    )


def _choose_scales(state: Quantization) -> Quantization:
    return replace(state, scales=choose_scales(state.mod, state.profiles, state.options))


def _measure(state: Quantization) -> Quantization:
    if state.measure is None:
        raise CalibrationError(
            "calibration",
            "must keep its images for GPTQ rounding and bias correction",
            hint="calibrate again with images, or choose another variant",
        )
    return replace(state, moments=state.measure(state.mod))


def _round(state: Quantization) -> Quantization:
    rounder = state.options.rounder.learned(
        state.moments,
        noise=_input_noise(state.mod, state.chosen),
        dampings={name: proof.damping for name, proof in state.proofs.items()},
    )
    scales, weights = state.chosen, {}
    for binding in read_graph(state.mod).bindings:
        name = binding.var.name
        if name in scales.weights and constant(binding.value.args[1]) is not None:
            weights[name] = rounder(name, weight_rows(binding.value), scales.weights[name])
    return replace(state, weights=weights)


def _correct_bias(state: Quantization) -> Quantization:
    harmful = {p.layer for p in state.proofs.values() if not p.correct_bias}
    step = CorrectBias(
        scales=state.chosen,
        weights=state.weights,
        moments={name: m for name, m in state.moments.items() if name not in harmful},
        block=state.options.block,
    )
    return replace(state, mod=step(state.mod), uncorrected=state.mod)


def _learn(state: Quantization) -> Quantization:
    options = state.options
    assert options.learner is not None
    if state.images is None:
        raise CalibrationError(
            "calibration",
            "must keep its images for weights that are learned",
            hint="calibrate again with images, or choose another variant",
        )
    learned = learn(
        state.uncorrected or state.mod,
        state.chosen,
        state.weights,
        state.images(),
        options.learner,
        corrected=state.mod,
        fuse=options.fuse,
        block=options.block,
        progress=state.progress,
        kept=state.kept,
    )
    return replace(state, mod=learned.mod, scales=learned.scales, weights=learned.weights)


def _plan(state: Quantization) -> Quantization:
    plan = make_plan(
        state.mod,
        state.chosen,
        rounder=GivenWeights(weights=state.weights),
        fuse=state.options.fuse,
        dyadic=state.options.dyadic,
        block=state.options.block,
    )
    return replace(state, plan=plan)


def _quantize(state: Quantization) -> Quantization:
    step = Quantize(plan=state.planned, rounder=GivenWeights(weights=state.weights))
    return replace(state, mod=step(state.mod))


def _fuse(state: Quantization) -> Quantization:
    return replace(state, mod=FuseConvRelu()(state.mod))


def _requantize(state: Quantization) -> Quantization:
    return replace(state, mod=Requantize(plan=state.planned)(state.mod))


# ---- what they made, to be looked at -------------------------------------------------------------
def _module(state: Quantization) -> Module:
    return state.mod


def _profile_rows(state: Quantization) -> Rows:
    return Rows(
        headings=("tensor", "smallest value", "largest value", "images"),
        rows=tuple(
            (name, f"{p.lo:g}", f"{p.hi:g}", str(p.samples)) for name, p in state.profiles.items()
        ),
    )


def _scale_rows(state: Quantization) -> Rows:
    kinds = (("tensor", state.chosen.tensors), ("weight", state.chosen.weights))
    return Rows(
        headings=("name", "tensor or weight", "width (bits)", "granularity", "scales"),
        rows=tuple(
            (name, kind, str(p.bits), p.granularity, " ".join(map(scale_text, p.scale)))
            for kind, params in kinds
            for name, p in params.items()
        ),
    )


def _moment_rows(state: Quantization) -> Rows:
    return Rows(
        headings=("layer", "inputs per window", "windows", "mean input", "mean variance"),
        rows=tuple(
            (
                name,
                str(m.mean.shape[-1]),
                str(m.samples),
                f"{float(np.mean(m.mean)):g}",
                f"{float(m.mean_variance) * m.unit**2:g}",
            )
            for name, m in state.moments.items()
        ),
    )


def _weight_rows(state: Quantization) -> Rows:
    return Rows(
        headings=(
            "layer",
            "output channels",
            "weights per channel",
            "smallest weight",
            "largest weight",
        ),
        rows=tuple(
            (name, *map(str, (*w.shape, w.min(initial=0), w.max(initial=0))))
            for name, w in state.weights.items()
        ),
    )


#: The same for all variants: the float module that is profiled, and its profiles.
FLOAT_STAGES: Final[tuple[Stage[Quantization], ...]] = (
    Stage(
        name="fold",
        about="the float module with constants and BatchNorm folded and tensors named",
        run=_fold,
        result=_module,
    ),
    Stage(
        name="profile",
        about="the range and histogram of each tensor on calibration images",
        run=_profile,
        result=_profile_rows,
    ),
)

#: From there to integers, by the options of a variant.
INTEGER_STAGES: Final[tuple[Stage[Quantization], ...]] = (
    Stage(
        name="rewrite",
        about="the float module with channels reordered, or with cross-layer equalization",
        run=_rewrite,
        result=_module,
    ),
    Stage(
        name="profile-again",
        about="profiles of the tensors whose values the rewriting changed",
        run=_profile,
        result=_profile_rows,
        applies=lambda state: "images" in state.options.needs,
    ),
    Stage(
        name="choose-scales",
        about="the scales of each tensor and weight, limited so that no accumulator overflows",
        run=_choose_scales,
        result=_scale_rows,
    ),
    Stage(
        name="moments",
        about="the mean and covariance of each layer's inputs on calibration images",
        run=_measure,
        result=_moment_rows,
        applies=lambda state: state.options.learns,
    ),
    Stage(
        name="round",
        about="the weights rounded to integers",
        run=_round,
        result=_weight_rows,
    ),
    Stage(
        name="correct-bias",
        about="biases that compensate the mean error of the rounded weights",
        run=_correct_bias,
        result=_module,
        applies=lambda state: state.options.correct_bias,
    ),
    Stage(
        name="learn",
        about="the module whose weights, scales and biases were learned block by block",
        run=_learn,
        result=_module,
        applies=lambda state: state.options.learner is not None,
    ),
    Stage(
        name="plan",
        about="the quantization plan: scales converted to shifts and multipliers",
        run=_plan,
        result=lambda state: state.planned,
    ),
    Stage(
        name="quantize",
        about="the module with integer operators between quantize and dequantize",
        run=_quantize,
        result=_module,
    ),
    Stage(
        name="fuse",
        about="the module with each conv+ReLU quantized once",
        run=_fuse,
        result=_module,
        applies=lambda state: state.options.fuse,
    ),
    Stage(
        name="requantize",
        about="the module with integers from one layer to the next",
        run=_requantize,
        result=_module,
    ),
)


# ---- callers without a machine -------------------------------------------------------------------
def prepare(mod: Module) -> Module:
    """Fold constants and BatchNorm, then name the tensors: the float module to profile."""
    return run_stages(FLOAT_STAGES[:1], Quantization(mod=mod)).mod


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
    images: Callable[[], Iterable[NDArray[np.float32]]] | None = None,
    after: After | None = None,
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
    images : callable () -> images, optional
        Of the calibration images, for options with a learner.
    after : callable (name, result), optional
        Called after each stage.

    Raises
    ------
    CalibrationError
        When a tensor was not profiled, or moments or profiles are needed and cannot be measured.
    """
    state = Quantization(
        mod=mod,
        options=options or QuantOptions(),
        profiles=profiles,
        measure=measure,
        observe=observe,
        images=images,
    )
    return run_stages(INTEGER_STAGES, state, after).mod


def _input_noise(mod: Module, scales: Scales) -> dict[str, float]:
    """Return scale² / 12 of every layer's input."""
    return {
        b.var.name: scales.tensors[b.value.args[0].name].scale[0] ** 2 / 12
        for b in read_graph(mod).bindings
        if b.var.name in scales.weights and b.value.args[0].name in scales.tensors
    }
