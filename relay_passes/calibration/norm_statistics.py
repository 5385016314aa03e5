"""The statistics that BatchNorms hold, and how far a batch of images is from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from relay_passes.graph import Module, constant
from relay_passes.host.torch_graph import Tensor, TorchGraph
from vta_config.errors import UnsupportedModelError

#: Of a layer's mean variance: what is added to each channel's.
FLOOR: Final = 0.01
#: Standard deviations of the input that are tried, and means in units of them.
SCALES: Final = tuple(2.0**k for k in range(-6, 11) if abs(k) > 1)
MEANS: Final = (0.0, 1.0, 2.0, -1.0, -2.0)
#: Noise images on which that is done.
NOISE_IMAGES: Final = 8
#: The loss must fall to this share of what it is with mean 0 and standard deviation 1.
BETTER: Final = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Norm:
    """A BatchNorm whose statistics say something.

    Parameters
    ----------
    name : str
        Of its result.
    source : str
        Of what it reads.
    axis : int
        Of the channels.
    first : bool
        Whether no other one lies between it and the input.
    mean, variance : float32[C]
        Running statistics.
    factor, offset : [C]
        y = x * factor + offset, in the network's type.
    floor : float
        Variance that is added to each channel's.
    """

    name: str
    source: str
    axis: int
    first: bool
    mean: Tensor
    variance: Tensor
    factor: Tensor
    offset: Tensor
    floor: float


def norms_of(mod: Module, graph: TorchGraph) -> tuple[Norm, ...]:
    """Return the BatchNorms that images can be learned from.

    Raises
    ------
    UnsupportedModelError
        When there are none.
    """
    names = graph.named("nn.batch_norm")
    found = [norm for name in names if (norm := _norm_of(graph, name)) is not None]
    if not found:
        raise UnsupportedModelError(
            "model",
            "must have BatchNorm statistics to make images from",
            got=(
                "mean 0 and variance 1 in every BatchNorm: the statistics were folded away"
                if names
                else "no BatchNorm"
            ),
            hint="export it before BatchNorm is folded, or calibrate with images",
        )
    return tuple(found)


def _norm_of(graph: TorchGraph, name: str) -> Norm | None:
    """Return what a BatchNorm says; None where that is nothing, or nothing about the input."""
    call = graph.call_of(name)
    gamma, beta, mean, variance = (
        None if (value := constant(arg)) is None else np.asarray(value, np.float64)
        for arg in call.args[1:5]
    )
    before = _ancestors(graph, name)
    if mean is None or variance is None or graph.input_name not in before:
        return None
    if not mean.any() and (variance == 1).all():
        return None
    variance = np.maximum(variance, 0)
    attrs = call.attrs
    factor = 1 / np.sqrt(variance + float(attrs.epsilon))
    if bool(attrs.scale) and gamma is not None:
        factor = gamma * factor
    offset = -mean * factor
    if bool(attrs.center) and beta is not None:
        offset = offset + beta
    return Norm(
        name=name,
        source=graph.reads_of(name)[0],
        axis=int(attrs.axis),
        first=not before & set(graph.named("nn.batch_norm")),
        mean=graph.tensor(mean),
        variance=graph.tensor(variance),
        factor=graph.tensor(factor),
        offset=graph.tensor(offset),
        floor=max(FLOOR * float(variance.mean()), 1e-12),
    )


def _ancestors(graph: TorchGraph, name: str) -> set[str]:
    """Return the names of all tensors that a tensor depends on, without its own."""
    found, pending = set[str](), [name]
    while pending:
        current = pending.pop()
        if current == graph.input_name:
            continue
        new = set(graph.reads_of(current)) - found
        found |= new
        pending += new
    return found


class NormLoss:
    """Adds up how far the inputs of BatchNorms are from their running statistics.

    Parameters
    ----------
    torch : module

    Attributes
    ----------
    total : float32[]
        Of all that have been computed; see `calibration.distill`.
    """

    def __init__(self, torch: Any) -> None:
        """Begin with nothing."""
        self._torch, self._apply = torch, _normalization(torch)
        self.total: Tensor = torch.zeros(())

    def reader(self, norm: Norm) -> Callable[[list[Any]], list[Any]]:
        """Return what computes a BatchNorm with its running statistics and adds its loss."""

        def compute(operands: list[Any]) -> list[Any]:
            x = operands[0].movedim(norm.axis, 1)
            y, mean, std = self._apply(x, norm.factor, norm.offset, norm.floor)
            variance = norm.variance + norm.floor  # both with the floor: the same function
            away = (mean - norm.mean).square() + (std - variance.sqrt()).square()
            self.total = (away / variance).mean() + self.total.to(away.device)
            return [y.movedim(1, norm.axis), *operands[3:5]]

        return compute


def _normalization(torch: Any) -> Any:
    """Return a function (x[N, C, ..], factor, offset, floor) -> (x * factor + offset, mean, std).

    std is sqrt(variance + floor). torch's own operators would go over x twice as often, and keep
    copies of it in float32.
    """

    class Normalization(torch.autograd.Function):  # type: ignore[misc]  # torch is optional
        @staticmethod
        def forward(ctx: Any, x: Tensor, factor: Tensor, offset: Tensor, floor: float) -> Any:
            shape = (1, -1, *[1] * (x.ndim - 2))
            _, mean, inverse = torch.native_batch_norm(x, None, None, None, None, True, 0.0, floor)
            mean, std = mean.float(), 1 / inverse.float()
            factor = factor.to(x.dtype).reshape(shape)
            ctx.save_for_backward(x, factor, mean, std)
            return torch.addcmul(offset.to(x.dtype).reshape(shape), x, factor), mean, std

        @staticmethod
        def backward(ctx: Any, of_y: Tensor, of_mean: Tensor, of_std: Tensor) -> Any:
            x, factor, mean, std = ctx.saved_tensors
            count = x.numel() // x.shape[1]
            slope = of_std / (count * std)
            level = of_mean / count - mean * slope
            of_x = torch.addcmul(
                level.to(x.dtype).reshape(factor.shape), x, slope.to(x.dtype).reshape(factor.shape)
            )
            return of_x.addcmul_(of_y, factor), None, None, None

    return Normalization.apply


def usual_range(
    noise: Callable[[int], Tensor], loss: Callable[[Tensor], float]
) -> tuple[float, float]:
    """Return mean and standard deviation that the model's input seems to have.

    0 and 1, as models with normalized input have, unless noise in another range fits the first
    BatchNorms clearly better.

    Parameters
    ----------
    noise : callable (count) -> float32[count, C, H, W]
        Images of mean 0 and standard deviation 1.
    loss : callable (images) -> float
        Of the first BatchNorms.
    """
    unit = noise(NOISE_IMAGES)
    usual = loss(unit)
    ranges = [(std * mean, std) for std in SCALES for mean in MEANS]
    losses = np.nan_to_num([loss(unit * std + mean) for mean, std in ranges], nan=np.inf)
    best = int(np.argmin(losses))
    return (0.0, 1.0) if BETTER * usual <= losses[best] else ranges[best]
