"""HAWQ's perturbation of a layer: the trace of the Hessian of its weights times their error.

    Omega(b) = trace(H) / n * |W - Q_b(W)|²

n the number of the layer's weights (HAWQ-V3, Yao et al., arXiv 2011.10680; HAWQ-V2, Dong et al.,
arXiv 1911.03852). The loss is the cross entropy with the float network's own output distribution p
as label, so that no labels are needed. Its gradient at the logits z is 0 there, and its Hessian is

    H = Jᵀ A J,    J = dz / dW,    A = diag(p) - p pᵀ = B Bᵀ,    B = diag(√p) (I - √p √pᵀ).

Hutchinson's estimate of a trace is the mean of vᵀ M v over v of independent ±1. HAWQ takes M = H, v
as long as the weights, and a second backward pass. The trace of Bᵀ J Jᵀ B is the same number, v as
long as the logits, and vᵀ M v = |Jᵀ B v|²: one backward pass, never negative, and free of what
layers have with each other, which is most of the other estimate's noise. Each image draws a v of
its own.

Needs PyTorch (``pip install vta-flow[torch]``), in which the float graph runs: `host.torch_graph`.
Activations have no weights, and so no share in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle, islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Module, constant, read_graph
from relay_passes.host.torch_graph import TorchGraph, import_torch
from relay_passes.params import TensorProfile
from relay_passes.quant_options import QuantOptions
from relay_passes.scales.bit_widths import Widths
from relay_passes.selection.sensitivity import Quantized, Sensitivity, usual_options
from vta_config.errors import CalibrationError

#: Vectors v that are enough, each with an image.
USUAL_VECTORS: Final = 64
#: What else one may do where the derivatives are missing.
_HINT: Final = "use the measured sensitivity"


def hessian_sensitivity(
    mod: Module,
    profiles: Mapping[str, TensorProfile],
    images: Iterable[NDArray[Any]],
    choices: Sequence[Widths],
    *,
    options: QuantOptions | None = None,
    vectors: int = USUAL_VECTORS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, dict[Widths, float]]:
    """Return the perturbation of each layer at each of `choices`; see the module's text.

    The widest weights count as no error, as in `measured_sensitivity`; `on_the_scale_of` makes both
    comparable.

    Parameters
    ----------
    mod : IRModule
        Float module, folded and named, after the passes of the options.
    profiles : dict[str, TensorProfile]
        Of its tensors.
    images : iterable of float32[N, C, H, W]
        Calibration images; from the first again where there are fewer than vectors.
    choices : sequence of Widths
        Each layer's.
    options : QuantOptions, optional
        Chooser, rounder, block and limits of the integers.
    vectors : int
        Of the estimate.
    seed : int
        Of the vectors.
    progress : callable (done, total), optional
        Called after every vector.

    Raises
    ------
    ConfigError
        When PyTorch is missing.
    CalibrationError
        When there are no choices or no images.
    UnsupportedModelError
        When the graph has an operator that is not known here.
    """
    if not choices:
        raise CalibrationError(
            "sensitivity",
            "must be measured for at least one choice of widths",
            got="none",
            hint="give Widths(weight_bits=4), ...",
        )
    traces = hessian_traces(mod, images, vectors=vectors, seed=seed, progress=progress)
    quantized = Quantized(mod, profiles, options or usual_options())
    widest = max(widths.weight_bits for widths in choices)
    calls = {str(b.var.name): b.value for b in read_graph(mod).bindings}
    result: dict[str, dict[Widths, float]] = {}
    for name, trace in traces.items():
        weight = constant(calls[name].args[1])
        assert weight is not None
        error = {
            bits: 0.0 if bits == widest else quantized.weight_error(name, bits)
            for bits in {widths.weight_bits for widths in choices}
        }
        result[name] = {
            widths: trace / weight.size * error[widths.weight_bits] for widths in choices
        }
    return result


def hessian_traces(
    mod: Module,
    images: Iterable[NDArray[Any]],
    *,
    vectors: int = USUAL_VECTORS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, float]:
    """Return Hutchinson's estimate of the trace of each layer's Hessian, the mean over images.

    Parameters
    ----------
    mod : IRModule
    images : iterable of float32[N, C, H, W]
    vectors : int
    seed : int
    progress : callable (done, total), optional

    Raises
    ------
    ConfigError
        When PyTorch is missing.
    CalibrationError
        When there are no images.
    UnsupportedModelError
        When the graph has an operator that is not known here.
    """
    torch = import_torch("Hessian", hint=_HINT)
    network = TorchGraph(mod, torch, hint=_HINT)
    used = list(islice(images, vectors))
    if not used:
        raise CalibrationError(
            "sensitivity",
            "must be measured on at least one image",
            got=0,
            hint="give calibration images",
        )
    generator = torch.Generator().manual_seed(seed)
    names, weights = list(network.weights), list(network.weights.values())
    sums = dict.fromkeys(names, 0.0)
    for done, image in enumerate(islice(cycle(used), vectors), 1):
        projected = 0.0  # vᵀ Bᵀ z, whose gradient is Jᵀ B v
        for logits in network(torch.from_numpy(np.ascontiguousarray(image, np.float32))):
            root = torch.softmax(logits.detach(), -1).sqrt()
            v = torch.randint(0, 2, root.shape, generator=generator).to(root.dtype).mul_(2).sub_(1)
            v = root * (v - root * (root * v).sum(-1, keepdim=True))
            projected = projected + (v * logits).sum() / len(logits) ** 0.5
        gradients = torch.autograd.grad(projected, weights, allow_unused=True)
        for name, gradient in zip(names, gradients, strict=True):
            if gradient is not None:  # of a layer that no result depends on
                sums[name] += float(gradient.double().square().sum())
        if progress is not None:
            progress(done, vectors)
    return {name: total / vectors for name, total in sums.items()}


def on_the_scale_of(reference: Sensitivity, values: Sensitivity) -> dict[str, dict[Widths, float]]:
    """Return `values` times a number with which their sum over layers and weights is `reference`'s.

    That changes no choice among them. Only widths of which the activations are the widest count:
    `hessian_sensitivity` knows of no others.

    Parameters
    ----------
    reference, values : dict[str, dict[Widths, float]]
    """
    widest = max(w.activation_bits for row in values.values() for w in row)

    def total(table: Sensitivity) -> float:
        return sum(
            omega
            for row in table.values()
            for widths, omega in row.items()
            if widths.activation_bits == widest
        )

    whole = total(values)
    factor = total(reference) / whole if whole else 1.0
    return {
        name: {widths: omega * factor for widths, omega in row.items()}
        for name, row in values.items()
    }
