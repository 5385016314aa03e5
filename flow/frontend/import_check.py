"""Compare the imported float graph with ONNX Runtime, tensor by tensor, on one image.

Each Relax variable that holds an ONNX tensor is computed from ONNX Runtime's values of the tensors
before it, so that a difference shows where it arises, and rounding does not add up. The operators
that most networks consist of run in numpy; only what remains is compiled by TVM.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from flow.frontend.onnx_session import OnnxSession, reason
from relay_passes.graph import (
    GraphBuilder,
    constant,
    dtype_of,
    ints,
    op_name,
    read_graph,
    replace_main,
    static_shape,
    substitute,
    variables,
)
from relay_passes.host.run import HostModule, conv2d
from vta_config.errors import UnsupportedModelError

Array: TypeAlias = NDArray[Any]
#: Differences up to here, as a share of a tensor's largest value, are rounding.
ROUNDING: Final[Mapping[str, float]] = {"float16": 0.02, "bfloat16": 0.1}
ROUNDING_FLOAT32: Final = 1e-4
#: How inputs are changed to see how far rounding may reach, and how often as far it may.
_NUDGE: Final = 2.0**-21
_REACH: Final = 16.0
#: Values of tensors that are kept at a time.
_GROUP_BYTES: Final = 256 << 20
#: Networks of up to so many multiplications are looked at on raw images (0 to 255) too.
_CHEAP: Final = 300_000_000


@dataclass(frozen=True, slots=True)
class _Slice:
    """The bindings that lead from known tensors to one that is compared."""

    var: Any
    tensor: str
    bindings: tuple[Any, ...]
    sources: tuple[Any, ...]


def check_import(
    proto: Any,
    mod: Any,
    tensors: Mapping[str, str],
    labels: Mapping[str, str],
    *,
    name: str,
    multiplications: int = 0,
) -> None:
    """Compare ``main`` of `mod` with ONNX Runtime.

    Parameters
    ----------
    proto : onnx.ModelProto
        The user's model, of batch 1.
    mod : IRModule
        What it was imported as.
    tensors : mapping
        Name of a variable -> the ONNX tensor that it holds; others are not compared.
    labels : mapping
        ONNX tensor -> what computes it, for people.
    name : str
        The model's name in errors.
    multiplications : int
        What one image takes.

    Raises
    ------
    UnsupportedModelError
        When ONNX Runtime does not run the model, or the first tensor differs by more than rounding.
    """
    graph = read_graph(mod)
    produced = {output for node in proto.graph.node for output in node.output}
    slices = _slices(graph, {v: t for v, t in tensors.items() if t in produced}, proto)
    try:
        session = OnnxSession(proto, [s.tensor for s in slices])
    except Exception as error:  # ONNX Runtime has no base class of its errors
        raise _not_run(name, error) from None
    shapes = [static_shape(param) for param in graph.params]
    rng = np.random.default_rng(0)
    images = [[rng.normal(size=shape).astype(np.float32) for shape in shapes]]
    if multiplications <= _CHEAP:
        images.append([rng.uniform(0, 255, size=shape).astype(np.float32) for shape in shapes])
    compiled = _Compiled(mod, graph, [s for s in slices if not _is_simple(s)])
    # Of outputs that are one tensor, the slice has the last one's name; the input itself has none.
    result = graph.results[0]
    finite = result not in {s.var for s in slices}
    for image in images:
        inputs = dict(zip(graph.params, image, strict=True))
        for group, values in _references(session, slices, inputs, proto, name):
            finite |= any(s.var == result and np.isfinite(values[s.var]).all() for s in group)
            _compare(group, values, compiled, labels, name)
    if not finite:
        raise UnsupportedModelError(
            f"{name} output",
            "must be finite numbers",
            got="NaN or infinity, in ONNX Runtime too",
            hint="check the weights, variances of BatchNormalization among them",
        )


def _slices(graph: Any, tensors: Mapping[str, str], proto: Any) -> list[_Slice]:
    """Cut the graph at the variables that hold ONNX tensors."""
    definitions = {b.var: b for b in graph.bindings}
    place = {b.var: i for i, b in enumerate(graph.bindings)}
    compared = {b.var: tensors[b.var.name] for b in graph.bindings if b.var.name in tensors}
    compared = {v: t for v, t in compared.items() if dtype_of(v)}
    for var, value in zip(graph.results, proto.graph.output, strict=True):
        compared[var] = value.name
    slices = []
    for var in sorted((v for v in compared if v in place), key=place.__getitem__):
        steps: dict[Any, Any] = {}
        sources: dict[Any, None] = {}
        todo = [var]
        while todo:
            step = todo.pop()
            if step in steps:
                continue
            steps[step] = definitions[step]
            for read in variables(definitions[step].value):
                if read in compared or read not in definitions:
                    sources[read] = None
                else:
                    todo.append(read)
        bindings = tuple(sorted(steps.values(), key=lambda b: place[b.var]))
        slices.append(_Slice(var, compared[var], bindings, tuple(sources)))
    return slices


def _references(
    session: OnnxSession,
    slices: Sequence[_Slice],
    inputs: Mapping[Any, Array],
    proto: Any,
    name: str,
) -> Iterator[tuple[list[_Slice], dict[Any, Array]]]:
    """Yield slices in groups that fit the memory, with ONNX Runtime's values of what they need."""
    names = (value.name for value in proto.graph.input)
    feed = dict(zip(names, inputs.values(), strict=True))
    tensor_of = {s.var: s.tensor for s in slices}
    group: list[_Slice] = []
    needed: dict[Any, None] = {}
    held = 0
    for index, piece in enumerate(slices):
        group.append(piece)
        for var in (piece.var, *piece.sources):
            if var not in needed and var not in inputs:
                needed[var] = None
                held += 4 * math.prod(static_shape(var))
        if held < _GROUP_BYTES and index + 1 < len(slices):
            continue
        tensors = [tensor_of[v] for v in needed if v in tensor_of]
        try:
            values = session.run(tensors, feed)
        except Exception as error:  # as above
            raise _not_run(name, error) from None
        found = dict(zip((v for v in needed if v in tensor_of), values, strict=True))
        yield group, {**{v: np.asarray(x) for v, x in found.items()}, **inputs}
        group, needed, held = [], {}, 0


def _compare(
    group: Sequence[_Slice],
    values: Mapping[Any, Array],
    compiled: _Compiled,
    labels: Mapping[str, str],
    name: str,
) -> None:
    """Compare a group of slices with the reference."""
    for piece in group:
        compute = partial(_run if _is_simple(piece) else compiled, piece)
        try:
            ours = compute(values)
        except Exception as error:  # TVM's compiler has no error type of its own
            got = reason(error)
        else:
            again = partial(_run_nudged, compute, piece, values)
            got = _difference(ours, values[piece.var], again)
        if got:
            raise UnsupportedModelError(
                f"{name} node {labels.get(piece.tensor, piece.tensor)}",
                "must be imported as ONNX Runtime computes it",
                got=f"{got} in tensor {piece.tensor}",
                hint="export that operator differently, or give --skip-import-check",
            )


def _difference(ours: Array, expected: Array, again: Callable[[], Array]) -> str:
    """Say how two tensors differ beyond rounding; "" when they do not."""
    if ours.shape != expected.shape:
        return f"shape {list(ours.shape)} instead of {list(expected.shape)}"
    if not np.issubdtype(expected.dtype, np.floating):
        different = int(np.count_nonzero(ours.astype(expected.dtype) != expected))
        return f"{different} of {expected.size} integers that differ" if different else ""
    share = ROUNDING.get(str(expected.dtype), ROUNDING_FLOAT32)
    with np.errstate(invalid="ignore"):
        worst = float(np.abs(ours - expected).max(initial=0.0))
    if worst <= share * float(np.abs(expected).max(initial=0.0)) < math.inf:
        return ""
    finite = np.isfinite(expected)
    if not np.array_equal(np.isfinite(ours), finite) or not np.array_equal(
        ours[~finite], expected[~finite], equal_nan=True
    ):
        return "NaN or infinity elsewhere"
    a, b = ours[finite].astype(np.float64), expected[finite].astype(np.float64)
    if not b.size:
        return ""
    worst, largest = float(np.abs(a - b).max()), float(np.abs(b).max())
    if worst <= share * largest:
        return ""
    nudged = again()[finite].astype(np.float64)
    reach = float(np.nanmax(np.abs(nudged - a), initial=0.0))
    if worst <= share * largest + _REACH * reach:
        return ""  # cancellation: rounding reaches as far
    return f"a difference of {worst:.3g} where values reach {largest:.3g}"


def _run_nudged(
    compute: Callable[[Mapping[Any, Array]], Array], piece: _Slice, values: Mapping[Any, Array]
) -> Array:
    """Compute a slice from slightly other sources."""
    return compute(_nudged(piece, values))


def _nudged(piece: _Slice, values: Mapping[Any, Array]) -> dict[Any, Array]:
    """Return the sources of a slice, changed by as little as rounding may."""
    rng = np.random.default_rng(1)
    result = dict(values)
    for var in piece.sources:
        value = values[var]
        if np.issubdtype(value.dtype, np.floating):
            sign = rng.choice(np.asarray([-1.0, 1.0]), size=value.shape)
            result[var] = (value * (1.0 + _NUDGE * sign)).astype(value.dtype)
    return result


def _not_run(name: str, error: Exception) -> UnsupportedModelError:
    return UnsupportedModelError(
        name,
        "must run on ONNX Runtime, which the import is compared with",
        got=reason(error),
        hint="export the model with operators that ONNX Runtime supports",
    )


# ---- running slices ----------------------------------------------------------------------------
class _Compiled:
    """Slices with operators that numpy does not run here, compiled by TVM as one module."""

    def __init__(self, mod: Any, graph: Any, slices: Sequence[_Slice]) -> None:
        """Make a function of the tensors before the slices; it is compiled at the first use."""
        self._slices = tuple(slices)
        self._mod, self._graph = mod, graph
        self._sources = tuple(dict.fromkeys(v for s in slices for v in s.sources))
        self._module: HostModule | None = None
        self._last: tuple[Mapping[Any, Array], list[Array]] | None = None

    def __call__(self, piece: _Slice, values: Mapping[Any, Array]) -> Array:
        """Compute the tensor that `piece` ends with."""
        if self._last is not None and self._last[0] is values:
            return self._last[1][self._slices.index(piece)]
        if self._module is None:
            self._module = HostModule(self._build(), fast=True)
        # Tensors of other groups are not at hand; their slices' results are not looked at.
        inputs = [
            values[v] if v in values else np.zeros(static_shape(v), dtype_of(v))
            for v in self._sources
        ]
        results = self._module(*inputs)
        self._last = values, results
        return results[self._slices.index(piece)]

    def _build(self) -> Any:
        builder = GraphBuilder()
        params = {v: relax.Var(f"in{i}", v.ty) for i, v in enumerate(self._sources)}
        results = []
        for piece in self._slices:
            env = dict(params)
            for binding in piece.bindings:
                value = substitute(binding.value, env)
                env[binding.var] = builder.emit(value, binding.var.name)
            results.append(env[piece.var])
        graph = type(self._graph)(
            params=tuple(params.values()),
            bindings=(),
            result=self._graph.result,
            function=self._graph.function,
        )
        return replace_main(self._mod, builder, graph, results)


def _is_simple(piece: _Slice) -> bool:
    return all(_operator(binding.value) is not None for binding in piece.bindings)


def _run(piece: _Slice, values: Mapping[Any, Array]) -> Array:
    """Compute a slice in numpy."""
    known: dict[Any, Any] = dict(values)
    for binding in piece.bindings:
        operator = _operator(binding.value)
        assert operator is not None
        with np.errstate(all="ignore"):
            known[binding.var] = operator(binding.value, known)
    return np.asarray(known[piece.var])


_Operator: TypeAlias = Callable[[Any, Mapping[Any, Any]], Any]


def _operator(value: Any) -> _Operator | None:
    """Return what computes a binding's value in numpy, None where TVM must."""
    if isinstance(value, relax.TupleGetItem) and value.index == 0:
        return lambda item, known: known[item.tuple_value][item.index]
    operator = _OPERATORS.get(op_name(value))
    return operator if operator is not None and _is_plain(value) else None


def _is_plain(call: Any) -> bool:
    """Whether a call is of the usual layout and type."""
    kind, attrs = op_name(call), call.attrs
    if kind == "nn.conv2d":
        return (
            dtype_of(call) == dtype_of(call.args[0]) == "float32"
            and (str(attrs.data_layout), str(attrs.kernel_layout)) == ("NCHW", "OIHW")
            and str(attrs.out_layout) == "NCHW"
        )
    if kind == "nn.max_pool2d":
        return str(attrs.layout) == "NCHW" and not bool(attrs.ceil_mode)
    if kind == "nn.batch_norm":
        return int(attrs.axis) == 1 and not bool(attrs.training)
    return True


def _array(expr: Any, known: Mapping[Any, Any]) -> Array:
    value = constant(expr)
    return value if value is not None else np.asarray(known[expr])


def _conv(call: Any, known: Mapping[Any, Any]) -> Array:
    attrs = call.attrs
    top, left, bottom, right = ints(attrs.padding)
    return conv2d(
        _array(call.args[0], known),
        _array(call.args[1], known),
        stride=(int(attrs.strides[0]), int(attrs.strides[1])),
        padding=(top, left, bottom, right),
        dilation=(int(attrs.dilation[0]), int(attrs.dilation[1])),
        groups=int(attrs.groups),
    )


def _batch_norm(call: Any, known: Mapping[Any, Any]) -> tuple[Array]:
    x, *rest = (_array(a, known) for a in call.args)
    gamma, beta, mean, variance = (a.reshape((-1,) + (1,) * (x.ndim - 2)) for a in rest)
    result = (x - mean) / np.sqrt(variance + np.float32(call.attrs.epsilon))
    if bool(call.attrs.scale):
        result = result * gamma
    return (result + beta if bool(call.attrs.center) else result,)


def _max_pool(call: Any, known: Mapping[Any, Any]) -> Array:
    attrs, x = call.attrs, _array(call.args[0], known)
    top, left, bottom, right = ints(attrs.padding)
    lowest = -np.inf if np.issubdtype(x.dtype, np.floating) else np.iinfo(x.dtype).min
    padded = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=lowest)
    rows, columns = static_shape(call)[2:]
    (kh, kw), (sh, sw), (dh, dw) = (
        ints(a) for a in (attrs.pool_size, attrs.strides, attrs.dilation)
    )
    result = np.full((*x.shape[:2], rows, columns), lowest, x.dtype)
    for i in range(kh):
        for j in range(kw):
            window = padded[:, :, i * dh :: sh, j * dw :: sw][:, :, :rows, :columns]
            np.maximum(result, window, out=result)
    return result


def _mean(call: Any, known: Mapping[Any, Any]) -> Array:
    axes = None if call.attrs.axis is None else ints(call.attrs.axis)
    x = _array(call.args[0], known)
    return np.asarray(x.mean(axis=axes, keepdims=bool(call.attrs.keepdims), dtype=x.dtype))


def _transpose(call: Any, known: Mapping[Any, Any]) -> Array:
    axes = None if call.attrs.axes is None else ints(call.attrs.axes)
    return np.transpose(_array(call.args[0], known), axes)


def _pairwise(function: Callable[[Array, Array], Array]) -> _Operator:
    return lambda call, known: function(_array(call.args[0], known), _array(call.args[1], known))


_OPERATORS: Final[Mapping[str, _Operator]] = {
    "nn.conv2d": _conv,
    "nn.batch_norm": _batch_norm,
    "nn.max_pool2d": _max_pool,
    "nn.relu": lambda call, known: np.maximum(_array(call.args[0], known), 0),
    "mean": _mean,
    "permute_dims": _transpose,
    "reshape": lambda call, known: _array(call.args[0], known).reshape(static_shape(call)),
    "add": _pairwise(np.add),
    "subtract": _pairwise(np.subtract),
    "multiply": _pairwise(np.multiply),
    "matmul": _pairwise(np.matmul),
}
