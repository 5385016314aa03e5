"""What the float graph's operators compute, in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np

from relay_passes.graph import Expr, ints, op_name, slices_of, static_shape
from relay_passes.operators.interpolation import ROUNDED, coordinates

#: Operators after which results are no logits any more.
SOFTMAX: Final = frozenset({"nn.softmax", "nn.log_softmax"})


def _padded(torch: Any, x: Any, padding: Iterable[Any], value: float = 0.0) -> Any:
    top, left, bottom, right = ints(padding)
    if not (top or left or bottom or right):
        return x
    return torch.nn.functional.pad(x, (left, right, top, bottom), value=value)


def _conv2d(torch: Any, call: Expr, operands: list[Any]) -> Any:
    attrs, (x, weight) = call.attrs, operands
    top, left, bottom, right = ints(attrs.padding)
    own = (top, left) == (bottom, right)  # without a padded copy
    return torch.nn.functional.conv2d(
        x if own else _padded(torch, x, attrs.padding),
        weight,
        stride=ints(attrs.strides),
        padding=(top, left) if own else 0,
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


def _batch_norm(torch: Any, call: Expr, operands: list[Any]) -> list[Any]:
    """Return y = gamma * (x - mean) / sqrt(variance + epsilon) + beta, mean and variance."""
    x, gamma, beta, mean, variance = operands
    attrs = call.attrs
    factor = (variance.double() + float(attrs.epsilon)).rsqrt()
    if bool(attrs.scale):
        factor = gamma.double() * factor
    offset = -mean.double() * factor
    if bool(attrs.center):
        offset = offset + beta.double()
    shape = [1] * x.ndim
    shape[int(attrs.axis)] = -1
    y = x * factor.reshape(shape).to(x.dtype) + offset.reshape(shape).to(x.dtype)
    return [y, mean, variance]


def _mean(torch: Any, call: Expr, operands: list[Any]) -> Any:
    axes, keep = call.attrs.axis, bool(call.attrs.keepdims)
    return operands[0].mean(dim=None if axes is None else ints(axes), keepdim=keep)


def _shaped(torch: Any, call: Expr, operands: list[Any]) -> Any:
    """Return the operand in its new shape; several images stay apart where one does."""
    x, shape = operands[0], static_shape(call)
    before = static_shape(call.args[0])
    if before and shape and before[0] == shape[0]:
        shape = (len(x), *shape[1:])
    return x.reshape(shape)


def _clip(torch: Any, call: Expr, operands: list[Any]) -> Any:
    low, high = (float(getattr(a, "value", a)) for a in call.args[1:3])
    return operands[0].clamp(low, high)


def _permuted(torch: Any, call: Expr, operands: list[Any]) -> Any:
    axes, x = call.attrs.axes, operands[0]
    return x.permute(*(range(x.ndim)[::-1] if axes is None else ints(axes)))


def _pad(torch: Any, call: Expr, operands: list[Any]) -> Any:
    attrs, x = call.attrs, operands[0]
    widths = ints(attrs.pad_width)
    flat = [w for axis in range(x.ndim)[::-1] for w in widths[2 * axis : 2 * axis + 2]]
    mode = str(attrs.pad_mode)
    if mode == "constant":
        return torch.nn.functional.pad(x, flat, value=float(attrs.pad_value))
    while flat and flat[-2:] == [0, 0]:  # the first axes, which these modes do not take
        del flat[-2:]
    return torch.nn.functional.pad(x, flat, mode=mode) if flat else x


def _strided_slice(torch: Any, call: Expr, operands: list[Any]) -> Any:
    x = operands[0]
    for axis, cut in slices_of(call).items():
        chosen = range(static_shape(call.args[0])[axis])[cut]
        if axis == 0 and len(chosen) == static_shape(call.args[0])[0]:
            continue  # all images, however many they are now
        x = x.index_select(axis, torch.tensor(list(chosen), device=x.device, dtype=torch.long))
    return x


def _take(torch: Any, call: Expr, operands: list[Any]) -> Any:
    x, indices, axis = operands[0], operands[1].long(), int(call.attrs.axis)
    if indices.ndim == 0:
        return x.select(axis, int(indices))
    return x.index_select(axis, (indices.to(x.device) % static_shape(call.args[0])[axis]))


def _resize(torch: Any, call: Expr, operands: list[Any]) -> Any:
    """Return a map of another size, its nearest numbers or those between, axis by axis."""
    x, attrs = operands[0], call.attrs
    before, after = (static_shape(c) for c in (call.args[0], call))
    for axis in (2, 3):
        at = coordinates(before[axis], after[axis], str(attrs.coordinate_transformation_mode))
        linear = str(attrs.method) == "linear"
        first = np.floor(at) if linear else ROUNDED[str(attrs.rounding_method)](at)
        low, high = (
            torch.tensor(np.clip(first + more, 0, before[axis] - 1), dtype=torch.long).to(x.device)
            for more in (0, 1)
        )
        lower = x.index_select(axis, low)
        if linear:
            shape = [-1 if i == axis else 1 for i in range(4)]
            part = torch.tensor(at - first, dtype=x.dtype).to(x.device).reshape(shape)
            lower = lower + (x.index_select(axis, high) - lower) * part
        x = lower
    return x


def is_known(call: Expr) -> bool:
    """Whether PyTorch computes a call: a line of `OPERATORS`, in a form that it knows."""
    kind, attrs = op_name(call), call.attrs
    if kind == "nn.batch_norm":
        return not bool(attrs.training)
    if kind == "image.resize2d":
        crops = str(attrs.coordinate_transformation_mode) == "tf_crop_and_resize"
        return str(attrs.method) != "cubic" and str(attrs.layout) == "NCHW" and not crops
    return kind in OPERATORS


def _split(torch: Any, call: Expr, operands: list[Any]) -> list[Any]:
    axis = int(call.attrs.axis)
    sizes = [static_shape_of(field)[axis] for field in call.ty.fields]
    return list(torch.split(operands[0], sizes, axis))


def static_shape_of(ty: Any) -> tuple[int, ...]:
    """Return the shape of a tensor type whose dimensions are known."""
    return ints(ty.shape.values)


def _prelu(torch: Any, call: Expr, operands: list[Any]) -> Any:
    x, slope = operands
    shape = [1] * x.ndim
    shape[int(call.attrs.axis)] = -1
    return torch.where(x > 0, x, x * slope.reshape(shape))


def _conv2d_transpose(torch: Any, call: Expr, operands: list[Any]) -> Any:
    attrs, (x, weight) = call.attrs, operands
    top, left, bottom, right = ints(attrs.padding)
    more = ints(attrs.output_padding)
    y = torch.nn.functional.conv_transpose2d(
        x,
        weight,
        stride=ints(attrs.strides),
        dilation=ints(attrs.dilation),
        groups=int(attrs.groups),
        output_padding=more,
    )
    return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]


def _reduced(name: str) -> Callable[[Any, Expr, list[Any]], Any]:
    def compute(torch: Any, call: Expr, operands: list[Any]) -> Any:
        x, axes = operands[0], call.attrs.axis
        dims = tuple(range(x.ndim)) if axes is None else ints(axes)
        return getattr(torch, name)(x, dim=dims, keepdim=bool(call.attrs.keepdims))

    return compute


def _elementwise(name: str) -> Callable[[Any, Expr, list[Any]], Any]:
    return lambda torch, call, x: getattr(torch, name)(*x)


def _functional(name: str) -> Callable[[Any, Expr, list[Any]], Any]:
    return lambda torch, call, x: getattr(torch.nn.functional, name)(x[0])


#: What the importer makes of CNNs, in PyTorch.
OPERATORS: Final[Mapping[str, Callable[[Any, Expr, list[Any]], Any]]] = {
    "nn.conv2d": _conv2d,
    "nn.max_pool2d": _max_pool2d,
    "nn.avg_pool2d": _avg_pool2d,
    "nn.batch_norm": _batch_norm,
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
    "nn.leakyrelu": lambda torch, call, x: torch.nn.functional.leaky_relu(
        x[0], float(call.attrs.alpha)
    ),
    "nn.prelu": _prelu,
    "nn.relu6": _functional("relu6"),
    "nn.silu": _functional("silu"),
    "nn.gelu": _functional("gelu"),
    "nn.pad": _pad,
    "nn.conv2d_transpose": _conv2d_transpose,
    **{
        name: _elementwise(name)
        for name in ("exp", "log", "sqrt", "rsqrt", "abs", "negative", "erf", "floor", "round")
    },
    "maximum": _elementwise("maximum"),
    "minimum": _elementwise("minimum"),
    "power": _elementwise("pow"),
    "split": _split,
    "strided_slice": _strided_slice,
    "take": _take,
    "image.resize2d": _resize,
    "mean": _mean,
    "sum": _reduced("sum"),
    "max": _reduced("amax"),
    "min": _reduced("amin"),
    "reshape": _shaped,
    "squeeze": _shaped,
    "expand_dims": _shaped,
    "permute_dims": _permuted,
}
