"""Read layers: of a quantized module, and of the functions that partition annotated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tvm import relax

from relay_passes.graph import Expr, Module, dtype_of, graph_of, op_name, read_graph, static_shape
from relay_passes.names import Names, layer_names
from relay_passes.operators.chain import Chain
from relay_passes.operators.table import refusal
from relay_passes.partition.find_layers import ChainFinder, layer_of
from relay_passes.partition.layers import INT8_RANGE, Layer, Subgraph, TensorSpec, TensorType
from vta_config.errors import UnsupportedModelError
from vta_config.hardware import VTAConfig

CODEGEN: Final = "vta"
#: Attributes of a composite function: its layer's name and its output's.
LAYER_ATTR, OUTPUT_ATTR = "vta.layer", "vta.output"
#: Attribute of an annotated function: the least and the largest number of each argument in turn.
RANGES_ATTR: Final = "vta.ranges"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLayers:
    """The layers of a quantized module, found once and then handed on.

    Parameters
    ----------
    chains : tuple of Chain
        Those that VTA takes, in execution order.
    refused : tuple of (Chain, str)
        Those that it does not take, and why.
    """

    chains: tuple[Chain, ...]
    refused: tuple[tuple[Chain, str], ...]


def find_layers(mod: Module, config: VTAConfig) -> FoundLayers:
    """Find the layers of a quantized module, and whether VTA takes them."""
    refused: list[tuple[Chain, str]] = []

    def allow(chain: Chain) -> bool:
        if reason := refusal(chain, config):
            refused.append((chain, reason))
        return not reason

    chains = ChainFinder(read_graph(mod), layer_names(mod)).all(allow)
    return FoundLayers(chains=tuple(chains), refused=tuple(refused))


def layers_of(mod: Module, config: VTAConfig) -> tuple[Layer, ...]:
    """Return the layers that VTA takes as a compiler gets them, tensors named as in the module."""
    chains = find_layers(mod, config).chains
    return tuple(layer_of(chain, {v: str(v.name) for v in chain.inputs}) for chain in chains)


def subgraph_of(function: Expr, config: VTAConfig, found: FoundLayers | None = None) -> Subgraph:
    """Read an annotated function, as the code generator receives it.

    Parameters
    ----------
    function : relax.Function
        With ``Codegen`` and ``global_symbol``; its composite functions are local.
    config : VTAConfig
        The machine.
    found : FoundLayers, optional
        The layers that it was made of, where they are known; else they are found in it again.

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
    known = {chain.name: chain for chain in (found.chains if found else ())}
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
                "must call a composite function for VTA",
                got=op_name(value) or type(value).__name__,
                hint="use partition",
            )
        output = taken.fresh(str(callee.attrs[OUTPUT_ATTR]))
        names[binding.var] = output
        name = str(callee.attrs[LAYER_ATTR])
        if (chain := known.get(name)) is not None:
            variables: Iterable[Expr] = dict.fromkeys(chain.inputs)  # as partition calls it
        else:
            (chain,), variables = ChainFinder(graph_of(callee, symbol)).all(), callee.params
        arguments = {v: names[a] for v, a in zip(variables, value.args, strict=True)}
        layers.append(layer_of(chain, arguments, name, output))
    return Subgraph(
        symbol=symbol,
        inputs=tuple(
            replace(_spec(names[p], p), low=low, high=high)
            for p, (low, high) in zip(graph.params, _ranges(function, graph.params), strict=True)
        ),
        outputs=tuple(_spec(names[v], v) for v in graph.results),
        layers=tuple(layers),
    )


def _ranges(function: Expr, params: Sequence[Expr]) -> list[tuple[int, int]]:
    """Return the range of each argument, that of int8 where nothing is known."""
    numbers = [int(n) for n in function.attrs.get(RANGES_ATTR, INT8_RANGE * len(params))]
    return [*zip(numbers[::2], numbers[1::2], strict=True)]


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
