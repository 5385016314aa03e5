"""Read and rebuild the one dataflow block of a CNN in Relax; the base of every pass here.

Variables keep the names that passes give them: a tensor's name is its variable's name hint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from relay_passes.requirements import NOTHING, Need
from vta_config.errors import FlowError, UnsupportedModelError

#: Relax and TVM ship no types for Python: their objects are `Any` here.
Expr = Any
Module = Any


class GraphPass:
    """Run `transform` as a TVM pass, so that instruments see it; subclasses are frozen options."""

    __slots__ = ()
    #: What the pass requires; "images" where tensors' values are others afterwards.
    needs: ClassVar[frozenset[Need]] = NOTHING

    def for_block(self, block: int) -> GraphPass:
        """Return the pass for a machine whose shifts serve `block` output channels."""
        return self

    def transform(self, mod: Module) -> Module:
        """Return the rewritten module; subclasses implement it."""
        raise NotImplementedError(type(self).__name__)

    def __call__(self, mod: Module) -> Module:
        """Apply the pass to `mod` under the current pass context."""
        failures: list[FlowError] = []

        def run(module: Module, _: Any) -> Module:
            try:
                return self.transform(module)
            except FlowError as failure:
                failures.append(failure)
                raise

        step = tvm.transform.module_pass(run, opt_level=0, name=type(self).__name__)
        try:
            return step(mod)
        except Exception:  # TVM makes a RuntimeError of errors that it does not know
            if failures:
                raise failures[0] from None
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The parts of ``main``: parameters, bindings in order, result.

    Parameters
    ----------
    params : tuple of relax.Var
        The function's parameters.
    bindings : tuple of relax.VarBinding
        Bindings of the dataflow block, in order.
    result : relax.Expr
        What the function returns: a variable or a tuple of variables.
    function : relax.Function
        Where they come from.
    """

    params: tuple[Expr, ...]
    bindings: tuple[Expr, ...]
    result: Expr
    function: Expr

    @property
    def results(self) -> tuple[Expr, ...]:
        """The variables returned."""
        return tuple(self.result.fields) if isinstance(self.result, relax.Tuple) else (self.result,)

    def uses(self) -> dict[Expr, list[Expr]]:
        """Map each variable to the bindings that read it; a returned one also to None."""
        uses: dict[Expr, list[Expr]] = {}
        for binding in self.bindings:
            for var in variables(binding.value):
                uses.setdefault(var, []).append(binding)
        for var in self.results:
            uses.setdefault(var, []).append(None)
        return uses

    def definitions(self) -> dict[Expr, Expr]:
        """Map each bound variable to its value."""
        return {binding.var: binding.value for binding in self.bindings}


def read_graph(mod: Module, name: str = "main") -> Graph:
    """Read function `name` of `mod`, which must be one block of bindings.

    Raises
    ------
    UnsupportedModelError
        When there is no such function, it has control flow, or a shape is not static.
    """
    if name not in [g.name_hint for g in mod.get_global_vars()]:
        raise UnsupportedModelError(name, "must be a function of the module", hint="import again")
    return graph_of(mod[name], name)


def graph_of(function: Expr, name: str = "main") -> Graph:
    """Read a Relax function; see `read_graph`."""
    body = function.body
    bindings: list[Expr] = []
    aliases: dict[Expr, Expr] = {}
    for block in body.blocks:
        for binding in block.bindings:
            if not isinstance(binding, relax.VarBinding) or isinstance(binding.value, relax.If):
                raise UnsupportedModelError(
                    name,
                    "must be straight-line code",
                    got=type(getattr(binding, "value", binding)).__name__,
                    hint="remove control flow from the model",
                )
            value = substitute(binding.value, aliases)
            if isinstance(value, relax.Var):  # an alias, as a block's output often is
                aliases[binding.var] = value
                continue
            if isinstance(value, relax.TupleGetItem) and isinstance(value.tuple_value, relax.Tuple):
                aliases[binding.var] = value.tuple_value.fields[value.index]
                continue
            bindings.append(binding if value.same_as(binding.value) else _bind(binding.var, value))
    for var in (*function.params, *(b.var for b in bindings)):
        if isinstance(var.ty, relax.TensorType):
            static_shape(var)
    result = substitute(body.body, aliases)
    tuples = {b.var: b.value for b in bindings if isinstance(b.value, relax.Tuple)}
    if result in tuples:
        result = tuples[result]
    return Graph(
        params=tuple(function.params), bindings=tuple(bindings), result=result, function=function
    )


def _bind(var: Expr, value: Expr) -> Expr:
    return relax.VarBinding(var, relax.BlockBuilder().normalize(value))


def variables(expr: Expr) -> Iterator[Expr]:
    """Yield the variables that a binding's value reads, in order, with repetition."""
    if isinstance(expr, relax.Var):
        yield expr
    elif isinstance(expr, relax.Call):
        for arg in expr.args:
            yield from variables(arg)
    elif isinstance(expr, relax.Tuple):
        for item in expr.fields:
            yield from variables(item)
    elif isinstance(expr, relax.TupleGetItem):
        yield from variables(expr.tuple_value)


def substitute(expr: Expr, mapping: Mapping[Expr, Expr]) -> Expr:
    """Replace variables of a binding's value; returns `expr` itself when nothing changes."""
    if not mapping:
        return expr
    if isinstance(expr, relax.Var):
        return mapping.get(expr, expr)
    if isinstance(expr, relax.Call):
        before = list(expr.args)  # TVM's arrays are slow to read
        args = [substitute(a, mapping) for a in before]
        if all(a is b or a.same_as(b) for a, b in zip(args, before, strict=True)):
            return expr
        return relax.Call(expr.op, args, expr.attrs, expr.ty_args, expr.span)
    if isinstance(expr, relax.Tuple):
        return relax.Tuple([substitute(f, mapping) for f in expr.fields])
    if isinstance(expr, relax.TupleGetItem):
        inner = substitute(expr.tuple_value, mapping)
        if isinstance(inner, relax.Tuple):
            return inner.fields[expr.index]
        return relax.TupleGetItem(inner, expr.index)
    return expr


class GraphBuilder:
    """Collect bindings with the names given, and make a function of them."""

    def __init__(self) -> None:
        """Start empty."""
        self._normalizer = relax.BlockBuilder()
        self.bindings: list[Expr] = []

    def emit(self, expr: Expr, name: str) -> Expr:
        """Bind `expr` to a new variable called `name` and return the variable."""
        if isinstance(expr, relax.Var):
            return expr
        expr = self._normalizer.normalize(expr)
        var = relax.DataflowVar(name, expr.ty)
        self.bindings.append(relax.VarBinding(var, expr))
        return var

    def function(
        self, params: Sequence[Expr], results: Sequence[Expr], attrs: Mapping[str, Any]
    ) -> Expr:
        """Return the function of `params` whose results are `results` (a tuple if several)."""
        bindings = list(self.bindings)
        place = {b.var: i for i, b in enumerate(bindings)}
        renamed: dict[Expr, Expr] = {}  # what a dataflow block returns must not be a DataflowVar
        aliases: dict[Expr, Expr] = {}  # ... nor a parameter
        for var in dict.fromkeys(results):
            if var in place:
                renamed[var] = relax.Var(var.name, var.ty)
            else:
                aliases[var] = relax.Var(f"{var.name}.out", var.ty)
        bindings = [
            relax.VarBinding(
                renamed.get(b.var, b.var), self._normalizer.normalize(substitute(b.value, renamed))
            )
            for b in bindings
        ]
        bindings += [relax.VarBinding(alias, var) for var, alias in aliases.items()]
        final = [(renamed | aliases)[var] for var in results]
        body = final[0] if len(final) == 1 else relax.Tuple(final)
        seq = relax.SeqExpr([relax.DataflowBlock(bindings)], body)
        ret_ty = body.ty if len(final) == 1 else relax.TupleType([v.ty for v in final])
        function = relax.Function(list(params), seq, ret_ty=ret_ty)
        for key, value in attrs.items():
            function = function.with_attr(key, value)
        return self._normalizer.normalize(function)


def rewrite(
    mod: Module,
    visit: Callable[[GraphBuilder, Expr, Expr], Expr | None],
    *,
    results: Callable[[GraphBuilder, tuple[Expr, ...]], Iterable[Expr]] | None = None,
) -> Module:
    """Rebuild ``main`` binding by binding.

    Parameters
    ----------
    mod : IRModule
        With one dataflow function ``main``.
    visit : callable (builder, var, value) -> expression or None
        `value` already reads the rebuilt variables; what is returned is bound to `var`'s name
        (a variable: used in its place; None: nothing, the variable must be dead).
    results : callable, optional
        Changes what is returned.
    """
    graph = read_graph(mod)
    builder = GraphBuilder()
    env: dict[Expr, Expr] = {}
    for binding in graph.bindings:
        value = visit(builder, binding.var, substitute(binding.value, env))
        if value is not None:
            env[binding.var] = builder.emit(value, binding.var.name)
    final = tuple(env.get(v, v) for v in graph.results)
    if results is not None:
        final = tuple(results(builder, final))
    return replace_main(mod, builder, graph, final)


def replace_main(
    mod: Module, builder: GraphBuilder, graph: Graph, results: Sequence[Expr]
) -> Module:
    """Return `mod` with ``main`` made of `builder`'s bindings, dead ones removed."""
    remove_dead(builder, results)
    attrs = dict(graph.function.attrs.items()) if graph.function.attrs else {}
    function = builder.function(graph.params, results, {"global_symbol": "main", **attrs})
    functions = {g: mod[g] for g in mod.get_global_vars() if g.name_hint != "main"}
    return tvm.IRModule({**functions, relax.GlobalVar("main"): function}, attrs=mod.attrs)


def remove_dead(builder: GraphBuilder, results: Sequence[Expr]) -> None:
    """Drop the builder's bindings that no result needs."""
    live = set(results)
    kept = []
    for binding in reversed(builder.bindings):
        if binding.var in live:
            live.update(variables(binding.value))
            kept.append(binding)
    builder.bindings = kept[::-1]


# ---- looking at expressions ------------------------------------------------------------------
def op_name(expr: Expr) -> str:
    """Return a call's operator without ``relax.``, e.g. ``nn.conv2d``; "" for what is no call."""
    if isinstance(expr, relax.Call) and isinstance(expr.op, tvm.ir.Op):
        return str(expr.op.name).removeprefix("relax.")
    return ""


def constant(expr: Expr) -> NDArray[Any] | None:
    """Return a constant's value, or None."""
    return np.asarray(expr.value.numpy()) if isinstance(expr, tvm.ir.GenericConst) else None


def source_name(value: Expr) -> str:
    """Return the name of what a call reads first, "" where that is no variable."""
    args = getattr(value, "args", ())
    return str(getattr(args[0], "name", "")) if args else ""


def static_shape(expr: Expr) -> tuple[int, ...]:
    """Return the shape of a tensor expression.

    Raises
    ------
    UnsupportedModelError
        When a dimension is not a known number.
    """
    shape = getattr(expr.ty, "shape", None)
    values = getattr(shape, "values", None)
    values = values if values is None else list(values)  # TVM's arrays are slow to read
    if values is None or not all(isinstance(v, tvm.tirx.IntImm) for v in values):
        raise UnsupportedModelError(
            getattr(expr, "name", "tensor"),
            "must have a static shape",
            got=shape,
            hint="export the model with fixed input sizes",
        )
    return tuple(int(v) for v in values)


def dtype_of(expr: Expr) -> str:
    """Return the element type of a tensor expression, e.g. ``"int8"``; "" of a tuple."""
    return str(expr.ty.dtype) if isinstance(expr.ty, relax.TensorType) else ""


def ints(values: Iterable[Any]) -> tuple[int, ...]:
    """Return TVM integers as Python's, also those of a tuple that is an operand."""
    return tuple(int(getattr(v, "value", v)) for v in values)


def clip_limits(call: Expr) -> tuple[float, float]:
    """Return the least and the largest result of a ``clip``."""
    low, high = (float(getattr(limit, "value", limit)) for limit in call.args[1:3])
    return low, high


def slices_of(call: Expr) -> dict[int, slice]:
    """Return what a ``strided_slice`` takes of each axis that it names."""
    rank = len(static_shape(call.args[0]))
    axes, begin, end, *strides = map(ints, call.args[1:])
    steps = strides[0] if strides else [1] * len(axes)
    found = zip(axes, begin, end, steps, strict=True)
    return {axis % rank: slice(first, last, step) for axis, first, last, step in found}
