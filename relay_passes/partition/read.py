"""Read layers: of a quantized module, and of the functions that partition annotated."""

from __future__ import annotations

from typing import Final

from tvm import relax

from relay_passes.graph import Expr, Module, dtype_of, graph_of, op_name, read_graph, static_shape
from relay_passes.names import Names, layer_names
from relay_passes.partition.checks import refusal
from relay_passes.partition.find_layers import Chain, ChainFinder
from relay_passes.partition.layers import Layer, Subgraph, TensorSpec, TensorType
from vta_config.errors import UnsupportedModelError
from vta_config.hardware import VTAConfig

CODEGEN: Final = "vta"
#: Attributes of a composite function: its layer's name and its output's.
LAYER_ATTR, OUTPUT_ATTR = "vta.layer", "vta.output"


def find_chains(mod: Module, config: VTAConfig) -> list[Chain]:
    """Return the layers of a quantized module that VTA takes, in execution order."""
    finder = ChainFinder(read_graph(mod), layer_names(mod))
    return finder.all(lambda chain: not refusal(chain, config))


def layers_of(mod: Module, config: VTAConfig) -> tuple[Layer, ...]:
    """Return the same layers as a compiler gets them, tensors named as in the module."""
    chains = find_chains(mod, config)
    return tuple(chain.layer({v: str(v.name) for v in chain.inputs}) for chain in chains)


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
        output = taken.fresh(str(callee.attrs[OUTPUT_ATTR]))
        names[binding.var] = output
        arguments = {p: names[a] for p, a in zip(callee.params, value.args, strict=True)}
        found = ChainFinder(graph_of(callee, symbol)).all()
        assert len(found) == 1, [c.name for c in found]
        layers.append(found[0].layer(arguments, str(callee.attrs[LAYER_ATTR]), output))
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
