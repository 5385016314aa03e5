"""Choose the scales of a model by its options: bits, the chooser's scales, and their limits."""

from __future__ import annotations

from collections.abc import Mapping

from relay_passes.graph import Module, read_graph
from relay_passes.params import TensorProfile
from relay_passes.quant_options import QuantOptions
from relay_passes.scales.layer_bits import precision_of
from relay_passes.scales.limit_scales import limit_scales, live_profiles
from relay_passes.scales.scales import Scales


def choose_scales(
    mod: Module, profiles: Mapping[str, TensorProfile], options: QuantOptions
) -> Scales:
    """Return a scale for each tensor and weight, within what accumulators hold.

    Parameters
    ----------
    mod : IRModule
        Float module, after the passes of the options.
    profiles : dict[str, TensorProfile]
        Of its tensors.
    options : QuantOptions

    Raises
    ------
    CalibrationError
        When a tensor was not profiled, or the options' widths do not fit the module.
    """
    precision = precision_of(
        mod,
        options.widths,
        options.limits,
        zero_points=options.zero_points,
        positive_inputs=positive_inputs(mod, profiles),
    )
    return limit_scales(
        mod,
        options.chooser(mod, live_profiles(mod, profiles), precision),
        fuse=options.fuse,
        pairs=options.chooser.pair,
        block=options.block,
    )


def positive_inputs(mod: Module, profiles: Mapping[str, TensorProfile]) -> frozenset[str]:
    """Return the inputs in whose calibration data nothing is negative, as in pixels of 0 to 255."""
    names = (str(param.name) for param in read_graph(mod).params)
    return frozenset(name for name in names if name in profiles and profiles[name].lo >= 0.0)
