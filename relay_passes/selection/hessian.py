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

Needs PyTorch (``pip install vta-flow[torch]``), in which the float graph runs operator by operator.
Activations have no weights, and so no share in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle, islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import (
    Expr,
    Graph,
    Module,
    constant,
    ints,
    op_name,
    read_graph,
    static_shape,
)
from relay_passes.params import TensorProfile
from relay_passes.quant_options import QuantOptions
from relay_passes.scales.bit_widths import Widths
from relay_passes.scales.layer_bits import layers_by_input
from relay_passes.selection.sensitivity import Quantized, Sensitivity, usual_options
from vta_config.errors import CalibrationError, ConfigError, UnsupportedModelError

#: Vectors v that are enough, each with an image.
USUAL_VECTORS: Final = 64


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
    torch = _torch()
    network = _TorchGraph(mod, torch)
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


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        raise ConfigError(
            "Hessian",
            "must have PyTorch for its derivatives",
            got="no module torch",
            hint='pip install "vta-flow[torch]", or use the measured sensitivity',
        ) from None
    return torch


class _TorchGraph:
    """The float graph in PyTorch: `weights` are leaves that have gradients."""

    def __init__(self, mod: Module, torch: Any) -> None:
        self._torch = torch
        self._graph: Graph = read_graph(mod)
        calls = {str(b.var.name): b.value for b in self._graph.bindings}
        for name, value in calls.items():
            if isinstance(value, relax.Call) and op_name(value) not in _OPERATORS:
                raise UnsupportedModelError(
                    name,
                    "must be an operator that the Hessian knows",
                    got=op_name(value) or type(value).__name__,
                    hint="use the measured sensitivity",
                )
        self.weights: dict[str, Any] = {
            name: torch.from_numpy(np.array(constant(calls[name].args[1]))).requires_grad_()
            for name in layers_by_input(mod)
        }

    def __call__(self, image: Any) -> list[Any]:
        """Return each result, before a softmax of its own, as float32[N, values]."""
        (param,) = self._graph.params
        values: dict[str, Any] = {str(param.name): image}
        for binding in self._graph.bindings:
            name, call = str(binding.var.name), binding.value
            operands = [self._operand(arg, values) for arg in call.args]
            if name in self.weights:
                operands[1] = self.weights[name]
            values[name] = _OPERATORS[op_name(call)](self._torch, call, operands)
        results = (values[str(v.name)] for v in self._logits())
        return [r.reshape(r.shape[0], -1) for r in results]

    def _logits(self) -> list[Expr]:
        """Return the module's results, those before a last softmax in place of its own."""
        definitions = self._graph.definitions()
        found = []
        for var in self._graph.results:
            value = definitions.get(var)
            found.append(value.args[0] if value is not None and op_name(value) in _SOFTMAX else var)
        return found

    def _operand(self, arg: Expr, values: Mapping[str, Any]) -> Any:
        if isinstance(arg, relax.Var):
            return values[str(arg.name)]
        if isinstance(arg, relax.Tuple):
            return [self._operand(field, values) for field in arg.fields]
        value = constant(arg)
        return arg if value is None else self._torch.from_numpy(np.array(value))


def _padded(torch: Any, x: Any, padding: Iterable[Any], value: float = 0.0) -> Any:
    top, left, bottom, right = ints(padding)
    if not (top or left or bottom or right):
        return x
    return torch.nn.functional.pad(x, (left, right, top, bottom), value=value)


def _conv2d(torch: Any, call: Expr, operands: list[Any]) -> Any:
    attrs = call.attrs
    return torch.nn.functional.conv2d(
        _padded(torch, operands[0], attrs.padding),
        operands[1],
        stride=ints(attrs.strides),
        dilation=ints(attrs.dilation),
        groups=int(attrs.groups),
    )


def _max_pool2d(torch: Any, call: Expr, operands: list[Any]) -> Any:
    attrs = call.attrs
    return torch.nn.functional.max_pool2d(
        _padded(torch, operands[0], attrs.padding, float("-inf")),
        ints(attrs.pool_size),
        stride=ints(attrs.strides),
        dilation=ints(attrs.dilation),
        ceil_mode=bool(attrs.ceil_mode),
    )


def _avg_pool2d(torch: Any, call: Expr, operands: list[Any]) -> Any:
    attrs = call.attrs
    size, strides = ints(attrs.pool_size), ints(attrs.strides)
    pool = torch.nn.functional.avg_pool2d
    x = _padded(torch, operands[0], attrs.padding)
    result = pool(x, size, stride=strides)
    if bool(attrs.count_include_pad) or not any(ints(attrs.padding)):
        return result
    ones = _padded(torch, torch.ones_like(operands[0][:1, :1]), attrs.padding)
    return result / pool(ones, size, stride=strides)


def _mean(torch: Any, call: Expr, operands: list[Any]) -> Any:
    axes, keep = call.attrs.axis, bool(call.attrs.keepdims)
    return operands[0].mean(dim=None if axes is None else ints(axes), keepdim=keep)


def _shaped(torch: Any, call: Expr, operands: list[Any]) -> Any:
    return operands[0].reshape(static_shape(call))


def _clip(torch: Any, call: Expr, operands: list[Any]) -> Any:
    low, high = (float(getattr(a, "value", a)) for a in call.args[1:3])
    return operands[0].clamp(low, high)


def _permuted(torch: Any, call: Expr, operands: list[Any]) -> Any:
    axes, x = call.attrs.axes, operands[0]
    return x.permute(*(range(x.ndim)[::-1] if axes is None else ints(axes)))


_SOFTMAX: Final = frozenset({"nn.softmax", "nn.log_softmax"})
#: What the importer makes of CNNs, in PyTorch.
_OPERATORS: Final[Mapping[str, Callable[[Any, Expr, list[Any]], Any]]] = {
    "nn.conv2d": _conv2d,
    "nn.max_pool2d": _max_pool2d,
    "nn.avg_pool2d": _avg_pool2d,
    "nn.relu": lambda torch, call, x: torch.relu(x[0]),
    "clip": _clip,
    "add": lambda torch, call, x: x[0] + x[1],
    "subtract": lambda torch, call, x: x[0] - x[1],
    "multiply": lambda torch, call, x: x[0] * x[1],
    "divide": lambda torch, call, x: x[0] / x[1],
    "matmul": lambda torch, call, x: x[0] @ x[1],
    "sigmoid": lambda torch, call, x: torch.sigmoid(x[0]),
    "tanh": lambda torch, call, x: torch.tanh(x[0]),
    "nn.softmax": lambda torch, call, x: torch.softmax(x[0], int(call.attrs.axis)),
    "nn.log_softmax": lambda torch, call, x: torch.log_softmax(x[0], int(call.attrs.axis)),
    "concat": lambda torch, call, x: torch.cat(x[0], int(call.attrs.axis)),
    "mean": _mean,
    "reshape": _shaped,
    "squeeze": _shaped,
    "expand_dims": _shaped,
    "permute_dims": _permuted,
}
