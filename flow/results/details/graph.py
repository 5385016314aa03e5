"""The network as it runs, read off a quantized module: layers on VTA, operators on the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flow.results.details.types import GraphNode, GraphTensor, NetworkGraph
from relay_passes.graph import Graph, dtype_of, op_name, read_graph, static_shape, variables
from relay_passes.integers.plan import QuantPlan
from relay_passes.names import Names, layer_names
from relay_passes.operators.calls import WEIGHT_AXIS
from relay_passes.partition.host_work import DEQUANTIZE, QUANTIZE
from relay_passes.partition.read import LAYER_ATTR, FoundLayers, annotated_functions

#: Operators on the host that change no number; they are drawn as an edge.
_VIEWS: Final = frozenset({"reshape", "squeeze", "expand_dims"})
#: Behind the name of a tensor that is quantized.
_QUANTIZED: Final = ".q"
_BITS: Final = {"int8": 8, "int32": 32, "float32": 32}


def network_graph(
    quantized: Any, partitioned: Any, found: FoundLayers, plan: QuantPlan | None
) -> NetworkGraph:
    """Return the layers and operators of a network, and the tensors between them.

    Operators on the host that make one tensor together, as those that quantize, are one node.

    Parameters
    ----------
    quantized, partitioned : IRModule
    found : FoundLayers
        Of `quantized`.
    plan : QuantPlan, optional
        Has the scales.
    """
    return _Reader(read_graph(quantized), layer_names(quantized), partitioned, found, plan).read()


class _Reader:
    """Nodes by the variables that they make."""

    def __init__(
        self,
        graph: Graph,
        owners: Mapping[str, str],
        partitioned: Any,
        found: FoundLayers,
        plan: QuantPlan | None,
    ) -> None:
        self._graph, self._owners, self._found, self._plan = graph, owners, found, plan
        self._programs = _programs_of(partitioned)
        self._names: dict[Any, str] = {}
        self._taken = Names()
        #: Of what is drawn as an edge: the variables that it stands for.
        self._through: dict[Any, tuple[Any, ...]] = {}
        self._tensors: dict[str, GraphTensor] = {}

    def read(self) -> NetworkGraph:
        nodes = [
            GraphNode(
                name=str(param.name), operator="input", place="host", program="",
                inputs=(), output=self._tensor(param),
            )
            for param in self._graph.params
        ]  # fmt: skip
        chains = {b.var: chain for chain in self._found.chains for b in chain.bindings}
        groups = self._host_groups(chains)
        last = {group[-1].var: group for group in groups}
        inside = {b.var for group in groups for b in group[:-1]}
        for binding in self._graph.bindings:
            var = binding.var
            if (chain := chains.get(var)) is not None:
                if var == chain.output:
                    nodes.append(
                        GraphNode(
                            name=chain.name,
                            operator=chain.kind,
                            place="vta",
                            program=self._programs.get(chain.name, ""),
                            inputs=self._inputs(chain.inputs),
                            output=self._tensor(var),
                        )
                    )
            elif var in last:
                nodes.append(self._host_node(last[var]))
            elif var not in inside:
                self._through[var] = tuple(variables(binding.value))
        used = {name for node in nodes for name in (*node.inputs, node.output)}
        return NetworkGraph(
            nodes=tuple(nodes),
            tensors=tuple(t for name, t in self._tensors.items() if name in used),
            outputs=self._inputs(self._graph.results),
        )

    def _host_groups(self, chains: Mapping[Any, Any]) -> list[list[Any]]:
        """Return the bindings on the host, those that make one tensor together in one group."""
        groups: list[list[Any]] = []
        open_groups: dict[str, list[Any]] = {}
        fixed: set[Any] = set()
        for binding in self._graph.bindings:
            kind, read = op_name(binding.value), tuple(variables(binding.value))
            if all(v in fixed for v in read):  # of constants alone
                fixed.add(binding.var)
                continue
            if binding.var in chains or kind in ("", *_VIEWS):
                continue
            owner = self._owners.get(str(binding.var.name), str(binding.var.name))
            group = open_groups.get(owner)
            if group is not None and read and group[-1].var in read:
                group.append(binding)
                continue
            group = open_groups[owner] = [binding]
            groups.append(group)
        return [part for group in groups for part in self._split(group)]

    def _split(self, group: list[Any]) -> list[list[Any]]:
        """Split a group behind each tensor that others read, too."""
        own = {b.var for b in group}
        readers: dict[Any, set[Any]] = {}
        for binding in self._graph.bindings:
            for var in variables(binding.value):
                if var in own:
                    readers.setdefault(var, set()).add(binding.var)
        results = set(self._graph.results)
        parts: list[list[Any]] = [[]]
        for binding in group:
            parts[-1].append(binding)
            if binding.var in results or readers.get(binding.var, set()) - own:
                parts.append([])
        return [part for part in parts if part]

    def _host_node(self, group: list[Any]) -> GraphNode:
        var = group[-1].var
        own = {b.var for b in group}
        read = [v for b in group for v in variables(b.value) if v not in own]
        types = {dtype_of(v) for v in read}
        operators = [op_name(b.value) for b in group]
        # A convolution with what arranges its data is a convolution.
        operator = next((o for o in operators if o in WEIGHT_AXIS), operators[-1])
        if len(group) > 1 and dtype_of(var) == "int8" and types == {"float32"}:
            operator = QUANTIZE
        elif "astype" in operators and dtype_of(var) == "float32" and types <= {"int8", "int32"}:
            operator = DEQUANTIZE
        name = self._owners.get(str(var.name), str(var.name))
        return GraphNode(
            name=name, operator=operator, place="host", program="",
            inputs=self._inputs(read), output=self._tensor(var),
        )  # fmt: skip

    def _inputs(self, read: Any) -> tuple[str, ...]:
        """Return the tensors of variables, each once; what is an edge stands for its own."""
        found: dict[str, None] = {}
        for var in read:
            if var in self._through:
                found.update(dict.fromkeys(self._inputs(self._through[var])))
            elif var in self._names:  # else a constant of the host
                found[self._names[var]] = None
        return tuple(found)

    def _tensor(self, var: Any) -> str:
        """Name the tensor of a variable; note its type and its scale."""
        name = self._names[var] = self._taken.fresh(str(var.name))
        dtype = dtype_of(var)
        params = None
        if self._plan is not None and dtype == "int8":
            tensors = self._plan.tensors
            params = tensors.get(name) or tensors.get(name.removesuffix(_QUANTIZED))
        scales = () if params is None else tuple(sorted({min(params.scale), max(params.scale)}))
        self._tensors[name] = GraphTensor(
            name=name,
            shape=static_shape(var) if dtype else (),
            dtype=dtype,
            bits=_BITS.get(dtype, 0) if params is None else params.bits,
            scale=scales,
            zero_point=0 if params is None else params.zero_point,
        )
        return name


def _programs_of(partitioned: Any) -> dict[str, str]:
    """Return the program of each layer."""
    found: dict[str, str] = {}
    for function in annotated_functions(partitioned):
        symbol = str(function.attrs["global_symbol"])
        for block in function.body.blocks:
            for binding in block.bindings:
                attrs = getattr(binding.value, "attrs", None)
                if attrs is not None and LAYER_ATTR in attrs:
                    found[str(attrs[LAYER_ATTR])] = symbol
    return found
