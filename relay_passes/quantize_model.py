"""Quantize a float model: the passes in their usual order, for callers without one of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from relay_passes.calibration.moments import Moments
from relay_passes.float_model.fold_batch_norm import FoldBatchNorm, FoldConstants
from relay_passes.float_model.name_tensors import NameTensors
from relay_passes.graph import GraphPass, Module, constant, read_graph
from relay_passes.integers.fuse_conv_relu import FuseConvRelu
from relay_passes.integers.make_plan import make_plan
from relay_passes.integers.quantize import Quantize
from relay_passes.integers.requantize import Requantize
from relay_passes.operators.calls import weight_rows
from relay_passes.params import TensorProfile
from relay_passes.rounding.bias_correction import CorrectBias
from relay_passes.rounding.nearest import GivenWeights, WeightRounder
from relay_passes.rounding.second_order import SecondOrderRounder
from relay_passes.scales.limit_scales import limit_scales, live_profiles
from relay_passes.scales.scales import Scales
from relay_passes.selection.choices import LayerProof
from relay_passes.variants import QuantOptions
from vta_config.errors import CalibrationError

#: Measures the moments of a float module's layers on calibration images.
Measure: TypeAlias = Callable[[Module], Mapping[str, Moments]]
#: Profiles a float module on calibration images.
Observe: TypeAlias = Callable[[Module], Mapping[str, TensorProfile]]


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
