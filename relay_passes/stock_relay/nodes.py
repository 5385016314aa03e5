"""A small graph for `stock_relay`: read from Relax, rewritten, written again.

TVM's `relay.quantize` rewrites expressions whose *identity* matters (how often a node is used, and
by whom), so its rules are restated over `Node`, a plain expression with identity, and not over
Relax bindings. Reading turns an inference BatchNorm into ``x · s + t`` as SimplifyInference does:
``s = (1 / sqrt(var + eps)) · gamma`` and ``t = (−mean) · s + beta``, each step rounded to float32
(the order decides the last bit of a weight, and with it integers).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import GraphBuilder, Module, dtype_of, read_graph, replace_main
from relay_passes.names import Names, with_layer_names
from vta_config.errors import UnsupportedModelError

Array: TypeAlias = NDArray[Any]

#: What follows a tensor's name in the names of what its integers are made of.
_SUFFIX: Final = {
    "conv2d": "acc",
    "dense": "acc",
    "left_shift": "shl",
    "right_shift": "shr",
    "multiply": "scaled",
}
#: Operators that a layer begins with.
_LAYERS: Final = ("conv2d", "dense")

#: Relax operators that rules know by a short name; everything else is ``"other"``.
_SHORT: Final = {
    "relax.nn.conv2d": "conv2d",
    "relax.nn.relu": "relu",
    "relax.nn.max_pool2d": "max_pool2d",
    "relax.nn.avg_pool2d": "avg_pool2d",
    "relax.add": "add",
    "relax.multiply": "multiply",
    "relax.clip": "clip",
    "relax.reshape": "reshape",
    "relax.flatten": "reshape",
    "relax.permute_dims": "transpose",
    "relax.strided_slice": "strided_slice",
    "relax.concat": "concatenate",
}
#: Adding this with x's sign and cutting the fraction off rounds half away from zero: the float32
#: just below ½, because ½ itself would round 0.49999997 up. (TVM's own `round` became half-even.)
_BELOW_HALF: Final = np.nextafter(np.float32(0.5), np.float32(0.0))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Node:
    """One expression; equal only to itself.

    Parameters
    ----------
    op : str
        ``"var"``, ``"const"``, a short name of `_SHORT`, ``"dense"``, ``"global_avg_pool2d"``, an
        operator made by a rule (``"cast"``, ``"right_shift"``, ...), or ``"other"``.
    args : tuple of Node
        Tensor operands in order; a concatenation's tuple is flattened.
    dtype : str
        Element type of the result.
    attrs : mapping
        What the operator needs besides operands.
    value : ndarray, optional
        A constant's value.
    origin : Relax expression, optional
        The Relax call or variable this was read from: a pattern for writing it again.
    name : str
        The name of the Relax variable, kept for what is written.
    """

    op: str
    args: tuple[Node, ...] = ()
    dtype: str = "float32"
    attrs: Mapping[str, Any] = field(default_factory=dict)
    value: Array | None = None
    origin: Any = None
    name: str = ""

    def with_args(self, args: Sequence[Node], *, dtype: str | None = None) -> Node:
        """Return the same operation on other operands."""
        return replace(self, args=tuple(args), dtype=dtype or self.dtype)


def constant(value: Any, dtype: str) -> Node:
    """Return a constant of a type."""
    array = np.asarray(value).astype(dtype)
    return Node(op="const", dtype=dtype, value=array)


def post_order(root: Node) -> Iterator[Node]:
    """Yield every node once, operands from left to right before the node (Relay's visiting order).

    Without recursion, so that a deep network does not meet Python's limit.
    """
    seen: set[Node] = set()
    stack = [(root, False)]
    while stack:
        node, expanded = stack.pop()
        if node in seen:
            continue
        if expanded:
            seen.add(node)
            yield node
            continue
        stack.append((node, True))
        stack.extend((arg, False) for arg in reversed(node.args))


def count_uses(root: Node) -> Counter[Node]:
    """Count the operand slots that refer to each node; the root counts once for the result."""
    uses = Counter([root])
    for node in post_order(root):
        uses.update(node.args)
    return uses


def unsupported(node: Node, must: str) -> UnsupportedModelError:
    """Return the error for a node that Relay's rules cannot quantize."""
    return UnsupportedModelError(
        node.name or node.op,
        f"{must}, for stock quantization",
        hint="Relay refuses this model as well",
    )


# ------------------------------------------------------------------------------------------ reading


def read_nodes(mod: Module) -> Node:
    """Read ``main`` into nodes, BatchNorm as a product and a sum.

    Parameters
    ----------
    mod : IRModule
        A float network.

    Raises
    ------
    UnsupportedModelError
        For control flow, shapes that are not static, or calls of other functions.
    """
    graph = read_graph(mod)
    known: dict[Any, Node] = {
        var: Node(op="var", dtype=dtype_of(var), origin=var, name=str(var.name))
        for var in graph.params
    }
    for binding in graph.bindings:
        known[binding.var] = _read_value(binding.value, known, binding.var)
    return _read_value(graph.result, known, None)


def _read_value(value: Any, known: Mapping[Any, Node], var: Any) -> Node:
    """Read one bound expression."""
    name = "" if var is None else str(var.name)
    if isinstance(value, tvm.ir.GenericConst):
        array = value.value.numpy()
        return Node(op="const", dtype=str(array.dtype), value=array, name=name)
    if isinstance(value, relax.Tuple):
        args = tuple(_read_value(item, known, None) for item in value.fields)
        return Node(op="tuple", args=args, name=name)
    if isinstance(value, relax.TupleGetItem):
        source = _read_value(value.tuple_value, known, None)
        if source.op == "batch_norm" and value.index == 0:
            return _simplify_batch_norm(source, name)
        return Node(op="other", args=(source,), origin=value, name=name, dtype=_dtype(value))
    if value in known:
        return known[value]
    if not isinstance(value, relax.Call) or not isinstance(value.op, tvm.ir.Op):
        raise UnsupportedModelError(
            name or "main",
            "must be a call of a Relax operator, for stock quantization",
            got=type(value).__name__,
            hint="inline functions and remove control flow first",
        )
    return _read_call(value, tuple(_tensor_args(value.args, known)), name)


def _tensor_args(args: Sequence[Any], known: Mapping[Any, Node]) -> Iterator[Node]:
    """Yield the tensor operands of a call; shapes and numbers stay in its origin."""
    for arg in args:
        if isinstance(arg, relax.Tuple):
            yield from _tensor_args(arg.fields, known)
        elif isinstance(arg, tvm.ir.GenericConst) or arg in known:
            yield _read_value(arg, known, None)


def _dtype(value: Any) -> str:
    """Return the element type of a Relax expression, or "" when it is not one tensor."""
    return str(value.ty.dtype) if isinstance(value.ty, relax.TensorType) else ""


def _read_call(call: Any, args: tuple[Node, ...], name: str) -> Node:
    """Give a call its short name, and compute it when it only moves a constant's elements."""
    relax_name = str(call.op.name)
    node = Node(op="other", args=args, dtype=_dtype(call), origin=call, name=name)
    shape = [int(n) for n in call.ty.shape.values] if _is_static(call.ty) else None
    if len(args) == 1 and args[0].value is not None and shape is not None:
        if relax_name == "relax.reshape":
            return constant(args[0].value.reshape(shape), node.dtype)
        if relax_name == "relax.permute_dims":
            axes = call.attrs.axes
            order = None if axes is None else [int(a) for a in axes]
            return constant(args[0].value.transpose(order), node.dtype)
    if relax_name == "relax.nn.batch_norm":
        return replace(node, op="batch_norm")
    if relax_name == "relax.matmul" and args[1].value is not None and args[1].value.ndim == 2:
        return replace(node, op="dense")
    if relax_name == "relax.clip":
        return replace(node, op="clip", attrs={"bounds": [float(a.value) for a in call.args[1:]]})
    if _is_global_average(call, relax_name):
        area = prod(int(n) for n in call.args[0].ty.shape.values[2:])
        return replace(node, op="global_avg_pool2d", attrs={"area": area})
    attrs = {"axis": int(call.attrs.axis)} if relax_name == "relax.concat" else {}
    return replace(node, op=_SHORT.get(relax_name, "other"), attrs=attrs)


def _is_static(ty: Any) -> bool:
    """Tell whether a type is one tensor of known shape."""
    if not isinstance(ty, relax.TensorType) or not isinstance(ty.shape, relax.ShapeExpr):
        return False
    return all(isinstance(n, tvm.tirx.IntImm) for n in ty.shape.values)


def _is_global_average(call: Any, relax_name: str) -> bool:
    """Tell whether a call is ONNX GlobalAveragePool, which Relax imports as a mean."""
    if not call.args or not _is_static(call.args[0].ty) or len(call.args[0].ty.shape.values) != 4:
        return False
    if relax_name == "relax.mean":
        axes = call.attrs.axis
        spatial = axes is not None and sorted(int(a) % 4 for a in axes) == [2, 3]
        return spatial and bool(call.attrs.keepdims)
    if relax_name == "relax.nn.adaptive_avg_pool2d":
        size = call.attrs.output_size
        return size is not None and [int(n) for n in size] == [1, 1]
    return False


def _simplify_batch_norm(norm: Node, name: str) -> Node:
    """Turn an inference BatchNorm into multiply and add, in SimplifyInference's float32 steps."""
    data, *parameters = norm.args
    attrs = norm.origin.attrs
    if any(p.value is None for p in parameters):
        raise UnsupportedModelError(
            name or "batch_norm",
            "must have constant gamma, beta, mean and variance",
            hint="bind the parameters before quantizing",
        )
    gamma, beta, mean, variance = (np.asarray(p.value, dtype=np.float32) for p in parameters)
    scale = np.float32(1.0) / np.sqrt(variance + np.float32(attrs.epsilon))
    if attrs.scale:
        scale = scale * gamma
    shift = -mean * scale
    if attrs.center:
        shift = shift + beta
    rank = len(norm.origin.args[0].ty.shape.values)
    shape = [1] * rank
    shape[int(attrs.axis) % rank] = -1
    scaled = Node(op="multiply", args=(data, constant(scale.reshape(shape), "float32")), name=name)
    return Node(op="add", args=(scaled, constant(shift.reshape(shape), "float32")), name=name)


# ---------------------------------------------------------------------------------------- rewriting


#: Sees the reference node and its new operands; returns a node, something pending, or None.
Rule: TypeAlias = Callable[[Node, list[Any]], Any]


class Pending(Protocol):
    """A result that knows more than an expression until someone needs the expression."""

    def realize(self) -> Node:
        """Return the expression."""
        ...


def rewrite(
    root: Node, rules: Mapping[str, Rule], *, on_shared: Callable[[Any], Any] | None = None
) -> Node:
    """Apply rules from the inputs to the result (Relay's ForwardRewrite).

    A rule sees the reference node and its new operands, which may be pending; when it returns
    None, or there is none, pending operands are realized, once each, and the node is kept.
    `on_shared` changes what every user of a node with several users sees.
    """
    uses = count_uses(root) if on_shared else {}
    new: dict[Node, Any] = {}
    realized: dict[int, tuple[Any, Node]] = {}

    def realize(value: Any) -> Node:
        if isinstance(value, Node):
            return value
        if id(value) not in realized:
            realized[id(value)] = (value, value.realize())
        return realized[id(value)][1]

    for node in post_order(root):
        values = [
            on_shared(new[arg]) if on_shared and uses[arg] > 1 else new[arg] for arg in node.args
        ]
        rule = rules.get(node.op)
        result = rule(node, values) if rule else None
        if result is None:
            args = [realize(value) for value in values]
            same = all(a is b for a, b in zip(args, node.args, strict=True))
            result = node if same else node.with_args(args)
        new[node] = result
    return realize(new[root])


# ------------------------------------------------------------------------------------------ writing


def write_nodes(root: Node, mod: Module) -> Module:
    """Return `mod` with ``main`` computing `root`.

    Variables keep the names they were read with; the steps to an int8 result ``name`` are called
    ``name.acc``, ``name.shr`` and the like.
    """
    graph = read_graph(mod)
    builder = GraphBuilder()
    done: dict[Node, Any] = {}
    params = {str(var.name) for var in graph.params}
    names, layers = Names(params), dict[str, str]()
    for node in post_order(root):
        if node.op in ("var", "const"):
            done[node] = node.origin if node.op == "var" else relax.const(node.value, node.dtype)
            continue
        name = _name(node)
        if node.op == "cast" and name in params:
            name = f"{name}.{node.dtype}"
        name = names.fresh(name)
        if node.op in _LAYERS:
            layers[name] = node.name or node.op
        emit = _Emit(builder, name, names, layers)
        expr = _WRITERS.get(node.op, _again)(emit, node, [done[arg] for arg in node.args])
        done[node] = expr if node.op == "tuple" else emit(expr)
    results = list(done[root].fields) if root.op == "tuple" else [done[root]]
    return with_layer_names(replace_main(mod, builder, graph, results), layers)


@dataclass(frozen=True, slots=True)
class _Emit:
    """Binds the result of one node, and with a suffix the steps to it."""

    builder: GraphBuilder
    name: str
    names: Names
    layers: dict[str, str]

    def __call__(self, expr: Any, suffix: str = "") -> Any:
        """Bind an expression to the node's name and return the variable."""
        if not suffix:
            return self.builder.emit(expr, self.name)
        var = self.builder.emit(expr, self.names.fresh(self.name + suffix))
        self.layers[str(var.name)] = self.name
        return var


def _name(node: Node) -> str:
    """Return the name of what a node makes."""
    base = node.name or node.op
    if node.origin is not None:
        if node.dtype not in ("int16", "int32"):
            return base
        return f"{base}.{_SUFFIX.get(node.op, node.op)}"
    if node.op == "cast":
        return base if node.dtype == "int8" else f"{base}.{node.dtype}"
    return f"{base}.{_SUFFIX.get(node.op, node.op)}"


def _again(emit: _Emit, node: Node, args: list[Any]) -> Any:
    """Write a node like the call it was read from, on other operands."""
    if isinstance(node.origin, relax.TupleGetItem):
        return relax.TupleGetItem(args[0], node.origin.index)
    operands = iter(args)

    def fill(old: Any) -> Any:
        if isinstance(old, relax.Tuple):
            return relax.Tuple([fill(item) for item in old.fields])
        is_value = isinstance(old, tvm.ir.GenericConst | tvm.ir.Var)
        return next(operands) if is_value else old

    call = node.origin
    return relax.Call(call.op, [fill(arg) for arg in call.args], call.attrs, call.ty_args)


def _write_conv2d(emit: _Emit, node: Node, args: list[Any]) -> Any:
    """Write a convolution with the accumulator type its operands ask for.

    One that stays in float is written over channels-last tensors, because its sums then run over
    (kernel y, kernel x, channel), the order of Relay's CPU schedule for up to eight channels: in
    another order a sum just below a rounding boundary becomes one on it.
    """
    attrs, (data, weight) = node.origin.attrs, args
    options = {
        "strides": tuple(attrs.strides),
        "padding": tuple(attrs.padding),
        "dilation": tuple(attrs.dilation),
        "groups": int(attrs.groups),
        "out_dtype": node.dtype,
    }
    kernel = node.args[1].value
    if not node.dtype.startswith("float") or options["groups"] != 1 or kernel is None:
        return relax.op.nn.conv2d(data, weight, **options)
    last = relax.op.nn.conv2d(
        emit(relax.op.permute_dims(data, [0, 2, 3, 1]), ".nhwc_input"),
        relax.const(kernel.transpose(2, 3, 1, 0)),
        data_layout="NHWC",
        kernel_layout="HWIO",
        **options,
    )
    return relax.op.permute_dims(emit(last, ".nhwc"), [0, 3, 1, 2])


def _write_clip(emit: _Emit, node: Node, args: list[Any]) -> Any:
    """Write a clip with limits of the operand's kind."""
    kind = float if node.dtype.startswith("float") else int
    low, high = (kind(bound) for bound in node.attrs["bounds"])
    return relax.op.clip(args[0], low, high)


def _write_round(emit: _Emit, node: Node, args: list[Any]) -> Any:
    """Write rounding half away from zero."""
    sign = emit(relax.op.sign(args[0]), ".sign")
    half = emit(relax.op.multiply(sign, relax.const(_BELOW_HALF)), ".half")
    return relax.op.trunc(emit(relax.op.add(args[0], half), ".sum"))


def _write_global_average(emit: _Emit, node: Node, args: list[Any]) -> Any:
    """Write a global average: an integer one is a sum and a division that truncates."""
    if node.dtype.startswith("float"):
        return _again(emit, node, args)
    total = relax.op.sum(args[0], axis=[2, 3], keepdims=True)
    if node.attrs["area"] == 1:
        return total
    return relax.op.divide(emit(total, ".acc"), relax.const(node.attrs["area"], node.dtype))


_WRITERS: Final[dict[str, Callable[[_Emit, Node, list[Any]], Any]]] = {
    "tuple": lambda _, node, args: relax.Tuple(args),
    "conv2d": _write_conv2d,
    "dense": lambda _, node, args: relax.op.matmul(*args, out_dtype=node.dtype),
    "add": lambda _, node, args: relax.op.add(*args),
    "multiply": lambda _, node, args: relax.op.multiply(*args),
    "left_shift": lambda _, node, args: relax.op.left_shift(*args),
    "right_shift": lambda _, node, args: relax.op.right_shift(*args),
    "cast": lambda _, node, args: relax.op.astype(args[0], node.dtype),
    "clip": _write_clip,
    "round": _write_round,
    "not_negative": lambda _, node, args: relax.op.greater_equal(
        args[0], relax.const(0, node.args[0].dtype)
    ),
    "where": lambda _, node, args: relax.op.where(*args),
    "concatenate": lambda _, node, args: relax.op.concat(args, axis=node.attrs["axis"]),
    "global_avg_pool2d": _write_global_average,
}
