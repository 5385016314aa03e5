"""Partition: group integer operators into layers, layers into the functions that VTA runs.

`Partition` wraps each chain of operators that makes one layer (chains.py) into a composite function
``vta.KIND``, and TVM's MergeCompositeFunctions joins neighbours into functions annotated with
``Codegen = "vta"``, for RunCodegen. `subgraph_of` reads such a function back as a `Subgraph`.

Whether VTA takes a layer is decided by the functions of `CHECKS`; the first line of each is the
sentence that the user reads when it does not hold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import tvm
from tvm import relax

from relay_passes.graph import (
    Expr,
    GraphBuilder,
    GraphPass,
    Module,
    dtype_of,
    graph_of,
    ints,
    op_name,
    read_graph,
    replace_main,
    static_shape,
    substitute,
)
from relay_passes.names import Names, layer_names
from relay_passes.params import RESIDUAL_OPS, Layer, LayerKind, Subgraph, TensorSpec, TensorType
from relay_passes.partition.find_layers import Chain, ChainFinder
from vta_config.errors import UnsupportedModelError
from vta_config.hardware import VTAConfig
from vta_config.isa import MAX_PAD

CODEGEN: Final = "vta"
#: Attributes of a composite function: its layer's name and its output's.
_LAYER_ATTR, _OUTPUT_ATTR = "vta.layer", "vta.output"
#: 64 GEMM steps with a diagonal of 127.
MAX_RESIDUAL: Final = 64 * 127


# ruff: noqa: D401 (the first line of a check is a sentence for the user, not a command)


# ---- what VTA can run ------------------------------------------------------------------------
def one_group(chain: Chain, config: VTAConfig) -> bool:
    """A convolution must have one group."""
    return int(chain.anchor.value.attrs.groups) == 1


def nchw_layout(chain: Chain, config: VTAConfig) -> bool:
    """A tensor must be laid out as NCHW, a kernel as OIHW."""
    attrs = chain.anchor.value.attrs
    names = ("data_layout", "layout", "kernel_layout")
    layouts = [str(getattr(attrs, name, "NCHW")) for name in names]
    return all(layout in ("NCHW", "OIHW") for layout in layouts)


def four_dimensions(chain: Chain, config: VTAConfig) -> bool:
    """A tensor must have four dimensions, or two for a dense layer."""
    shapes = [static_shape(var) for var in (*chain.inputs, chain.output)]
    return all(len(shape) == 4 or len(shape) == 2 for shape in shapes)


def padding_fits(chain: Chain, config: VTAConfig) -> bool:
    """A window's padding must be at most 15 on every side."""
    return all(0 <= int(p) <= MAX_PAD for p in chain.anchor.value.attrs.padding)


def windows_meet_the_picture(chain: Chain, config: VTAConfig) -> bool:
    """A convolution's every window must meet the picture, not zeros alone."""
    attrs, operands = chain.anchor.value.attrs, (*chain.anchor.value.args, chain.anchor.var)
    sizes = zip(*(static_shape(x)[2:] for x in operands), strict=True)
    windows = zip(ints(attrs.strides), ints(attrs.dilation), ints(attrs.padding[:2]), strict=True)
    return all(
        padding <= (kernel - 1) * dilation and (out - 1) * stride - padding < size
        for (size, kernel, out), (stride, dilation, padding) in zip(sizes, windows, strict=True)
    )


def dense_dilation(chain: Chain, config: VTAConfig) -> bool:
    """A pooling window must not be dilated, and must round its size down."""
    attrs = chain.anchor.value.attrs
    return all(int(d) == 1 for d in attrs.dilation) and not bool(attrs.ceil_mode)


def windows_start_inside(chain: Chain, config: VTAConfig) -> bool:
    """A pooling window must start inside the picture, and nothing may be added to its maximum."""
    attrs = chain.anchor.value.attrs
    sizes = zip(static_shape(chain.inputs[0])[2:], static_shape(chain.output)[2:], strict=True)
    inside = all((o - 1) * int(s) < i for (i, o), s in zip(sizes, attrs.strides, strict=True))
    inside &= all(int(p) < int(k) for p, k in zip(attrs.padding[:2], attrs.pool_size, strict=True))
    return inside and all(op not in ("add", *RESIDUAL_OPS) for op, _, _ in chain.steps)


def one_number_a_block(chain: Chain, config: VTAConfig) -> bool:
    """A shift or factor must be the same for all channels of a block."""
    by_block = {"shr", "shl", "mul"} - ({"shr"} if "shr_register" in config.capabilities else set())
    for op, value, _ in chain.steps:
        numbers = np.ravel(value)
        if op in by_block and numbers.size > 1:
            starts = np.repeat(numbers[:: config.block], config.block)[: numbers.size]
            if (numbers != starts).any():
                return False
    return True


def sums_rows_and_columns(chain: Chain, config: VTAConfig) -> bool:
    """A sum must be over all rows and columns, its dimensions kept."""
    attrs = chain.anchor.value.attrs
    rank = len(static_shape(chain.inputs[0]))
    axes = sorted(int(a) % rank for a in attrs.axis) if attrs.axis is not None else []
    return rank == 4 and axes == [2, 3] and bool(attrs.keepdims)


def multiplies_if_possible(chain: Chain, config: VTAConfig) -> bool:
    """A multiplication of the accumulator by less than 1 needs a machine with capability mul."""
    factors = (value for op, value, _ in chain.steps if op == "mul")
    return "mul" in config.capabilities or all(np.min(value) >= 1 for value in factors)


def shifts_in_range(chain: Chain, config: VTAConfig) -> bool:
    """A shift must be in [0, 31]."""
    amounts = [value for op, value, _ in chain.steps if op in ("shr", "shl", "add_tensor")]
    return all(np.min(value) >= 0 and np.max(value) <= 31 for value in amounts)


def residuals_fit(chain: Chain, config: VTAConfig) -> bool:
    """A residual must be added at most 8,128 times."""
    factors = ((1 << np.asarray(v)) if op == "add_tensor" else v for op, v in _residuals(chain))
    return all(np.max(factor) <= MAX_RESIDUAL for factor in factors)


def _residuals(chain: Chain) -> list[tuple[str, Any]]:
    return [(op, value) for op, value, _ in chain.steps if op in RESIDUAL_OPS]


def limits_fit(chain: Chain, config: VTAConfig) -> bool:
    """A limit of the accumulator must fit 16 bits."""
    limits = (value for op, value, _ in chain.steps if op in ("min", "max"))
    return all(-(1 << 15) <= np.min(v) and np.max(v) < 1 << 15 for v in limits)


def one_left_shift(chain: Chain, config: VTAConfig) -> bool:
    """A left shift must be the same for all channels."""
    return all(np.ptp(value) == 0 for op, value, _ in chain.steps if op == "shl")


Check = Callable[[Chain, VTAConfig], bool]
_ALWAYS: Final[tuple[Check, ...]] = (
    four_dimensions,
    shifts_in_range,
    residuals_fit,
    limits_fit,
    one_left_shift,
    one_number_a_block,
    multiplies_if_possible,
)
#: The pattern table: each kind of layer, and what must hold for VTA to take it.
CHECKS: Final[dict[LayerKind, tuple[Check, ...]]] = {
    "conv2d": (nchw_layout, one_group, padding_fits, windows_meet_the_picture, *_ALWAYS),
    "dense": _ALWAYS,
    "add": _ALWAYS,
    "max_pool2d": (
        nchw_layout,
        dense_dilation,
        padding_fits,
        windows_start_inside,
        *_ALWAYS,
    ),
    "sum_pool2d": (sums_rows_and_columns, *_ALWAYS),
}


def refusal(chain: Chain, config: VTAConfig) -> str:
    """Return why VTA does not take a chain, "" when it does."""
    for part in (chain, *chain.products):
        for check in CHECKS[part.kind]:
            if not check(part, config):
                sentence = (check.__doc__ or "").partition("\n")[0].rstrip(".")
                return sentence[:1].lower() + sentence[1:]
    return ""


# ---- passes ----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class WrapLayers(GraphPass):
    """Wrap each layer that VTA takes into a private composite function.

    Parameters
    ----------
    config : VTAConfig
        The machine.
    """

    config: VTAConfig

    def transform(self, mod: Module) -> Module:
        """Return `mod` whose ``main`` calls composite functions."""
        graph = read_graph(mod)
        chains = find_chains(mod, self.config)
        inside = {b.var for chain in chains for b in chain.bindings}
        by_output = {chain.output: chain for chain in chains}
        builder = GraphBuilder()
        env: dict[Expr, Expr] = {}
        functions: dict[Expr, Expr] = {}
        for binding in graph.bindings:
            var = binding.var
            if (chain := by_output.get(var)) is not None:
                function, arguments = _composite(chain, graph.bindings)
                gvar = relax.GlobalVar(f"vta_{chain.kind}_{len(functions)}")
                gvar = _typed(gvar, function)
                functions[gvar] = function
                call = relax.Call(gvar, [env.get(a, a) for a in arguments])
                env[var] = builder.emit(call, var.name)
            elif var not in inside:
                env[var] = builder.emit(substitute(binding.value, env), var.name)
        results = [env.get(v, v) for v in graph.results]
        wrapped = replace_main(mod, builder, graph, results)
        for gvar, function in functions.items():
            wrapped[gvar] = function
        return wrapped


def partition(mod: Module, config: VTAConfig) -> Module:
    """Return the module with VTA's functions annotated, for RunCodegen.

    Parameters
    ----------
    mod : IRModule
        Quantized, as `Requantize` returns it.
    config : VTAConfig
        The machine.
    """
    merged = relax.transform.MergeCompositeFunctions()(WrapLayers(config=config)(mod))
    return NameFunctions()(merged)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameFunctions(GraphPass):
    """Call VTA's functions ``vta_0``, ``vta_1``, ... in place of the names of all their parts."""

    def transform(self, mod: Module) -> Module:
        """Return `mod` with other global symbols."""
        graph = read_graph(mod)
        callees = [b.value.op for b in graph.bindings if isinstance(b.value, relax.Call)]
        renamed: dict[Expr, Expr] = {}
        for gvar in dict.fromkeys(c for c in callees if isinstance(c, relax.GlobalVar)):
            function = mod[gvar]
            if function.attrs and function.attrs.get("Codegen", "") == CODEGEN:
                symbol = f"{CODEGEN}_{len(renamed)}"
                function = function.with_attr("global_symbol", symbol)
                renamed[gvar] = _typed(relax.GlobalVar(symbol), function), function
        builder = GraphBuilder()
        env: dict[Expr, Expr] = {}
        for binding in graph.bindings:
            value = substitute(binding.value, env)
            if isinstance(value, relax.Call) and value.op in renamed:
                value = relax.Call(renamed[value.op][0], list(value.args), value.attrs)
            env[binding.var] = builder.emit(value, binding.var.name)
        others = {g: mod[g] for g in mod.get_global_vars() if g not in renamed}
        base = tvm.IRModule(others, attrs=mod.attrs)
        result = replace_main(base, builder, graph, [env.get(v, v) for v in graph.results])
        for gvar, function in renamed.values():
            result[gvar] = function
        return result


def find_chains(mod: Module, config: VTAConfig) -> list[Chain]:
    """Return the layers of a quantized module that VTA takes, in execution order."""
    finder = ChainFinder(read_graph(mod), layer_names(mod))
    return finder.all(lambda chain: not refusal(chain, config))


def layers_of(mod: Module, config: VTAConfig) -> tuple[Layer, ...]:
    """Return the same layers as a compiler gets them, tensors named as in the module."""
    chains = find_chains(mod, config)
    return tuple(chain.layer({v: str(v.name) for v in chain.inputs}) for chain in chains)


def _composite(chain: Chain, order: tuple[Expr, ...]) -> tuple[Expr, list[Expr]]:
    """Return the composite function of a chain and the variables to call it with."""
    members = {b.var for b in chain.bindings}
    arguments = list(dict.fromkeys(chain.inputs))
    params = [relax.Var(var.name, var.ty) for var in arguments]
    env: dict[Expr, Expr] = dict(zip(arguments, params, strict=True))
    builder = GraphBuilder()
    for binding in order:
        if binding.var in members:
            value = substitute(binding.value, env)
            env[binding.var] = builder.emit(value, binding.var.name)
    attrs = {
        "Composite": f"{CODEGEN}.{chain.kind}",
        "Primitive": True,
        _LAYER_ATTR: chain.name,
        _OUTPUT_ATTR: chain.output_name,
    }
    return builder.function(params, [env[chain.output]], attrs), arguments


def _typed(gvar: Expr, function: Expr) -> Expr:
    relax.expr._update_type(gvar, function.ty)
    return gvar


# ---- reading annotated functions -------------------------------------------------------------
def subgraph_of(function: Expr, config: VTAConfig) -> Subgraph:
    """Read an annotated function, as the code generator receives it.

    Parameters
    ----------
    function : relax.Function
        With ``Codegen`` and ``global_symbol``; its composite functions are local.
    config : VTAConfig
        The machine.

    Raises
    ------
    UnsupportedModelError
        When the function holds anything but calls of our composite functions.
    """
    symbol = str(function.attrs["global_symbol"])
    graph = graph_of(function, symbol)
    local: dict[Expr, Expr] = {}
    names: dict[Expr, str] = {}
    taken = Names()
    for param in graph.params:
        names[param] = taken.fresh(str(param.name))
    layers = []
    for binding in graph.bindings:
        value = binding.value
        if isinstance(value, relax.Function):
            local[binding.var] = value
            continue
        callee = local.get(value.op) if isinstance(value, relax.Call) else None
        if callee is None or not str(callee.attrs.get("Composite", "")).startswith(f"{CODEGEN}."):
            raise UnsupportedModelError(
                f"{symbol}: {binding.var.name}",
                "must call a composite function of VTA's",
                got=op_name(value) or type(value).__name__,
                hint="use partition",
            )
        output = taken.fresh(str(callee.attrs[_OUTPUT_ATTR]))
        names[binding.var] = output
        arguments = {p: names[a] for p, a in zip(callee.params, value.args, strict=True)}
        found = ChainFinder(graph_of(callee, symbol)).all()
        assert len(found) == 1, [c.name for c in found]
        layers.append(found[0].layer(arguments, str(callee.attrs[_LAYER_ATTR]), output))
    return Subgraph(
        symbol=symbol,
        inputs=tuple(_spec(names[p], p) for p in graph.params),
        outputs=tuple(_spec(names[v], v) for v in graph.results),
        layers=tuple(layers),
    )


def _spec(name: str, var: Expr) -> TensorSpec:
    dtype: TensorType = "int8" if dtype_of(var) == "int8" else "int32"
    return TensorSpec(name=name, shape=static_shape(var), dtype=dtype)


def annotated_functions(mod: Module) -> list[Expr]:
    """Return the functions of a partitioned module that VTA runs, in the order of their calls."""
    calls = (b.value.op for b in read_graph(mod).bindings if isinstance(b.value, relax.Call))
    functions = [mod[g] for g in dict.fromkeys(c for c in calls if isinstance(c, relax.GlobalVar))]
    return [
        f
        for f in functions
        if isinstance(f, relax.Function) and f.attrs and f.attrs.get("Codegen", "") == CODEGEN
    ]
