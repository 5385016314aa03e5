"""Compile a network, or a layer with its neighbours, for a machine again and time it.

What matters for time alone is made: weights are zeros, and nothing is verified, since the compiler
emits what the verifier accepts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from flow.compiler.link import make_program
from flow.compiler.lower import Lowering
from flow.compiler.planes import int8_range, tensor_planes
from flow.compiler.schedule import Schedule
from flow.compiler.search import Compiling
from flow.sim.tsim import layer_cycles
from relay_passes.names import layer_names
from relay_passes.partition.fallbacks import host_work
from relay_passes.partition.layers import Subgraph, TensorSpec
from relay_passes.partition.partition import partition
from relay_passes.partition.read import annotated_functions, find_layers, subgraph_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relay_passes.partition.layers import Layer
    from vta_config.hardware import VTAConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The layers of a network that a machine takes.

    Parameters
    ----------
    machine : VTAConfig
    subgraphs : tuple of Subgraph
        One for each program.
    refused : mapping of str to str
        Why operators stay on the host, by the name of the layer.
    """

    machine: VTAConfig
    subgraphs: tuple[Subgraph, ...]
    refused: dict[str, str]

    @classmethod
    def of(cls, quantized: Any, machine: VTAConfig) -> Network:
        """Partition an integer module for a machine."""
        found = find_layers(quantized, machine)
        owners = layer_names(quantized)
        host = host_work(quantized, machine, found).fallbacks
        functions = annotated_functions(partition(quantized, machine, found))
        return cls(
            machine=machine,
            subgraphs=tuple(subgraph_of(f, machine, found) for f in functions),
            refused={owners.get(f.name, f.name): f.reason for f in host},
        )

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers on VTA."""
        return tuple(layer.name for graph in self.subgraphs for layer in graph.layers)

    def cycles(self, how: Compiling) -> dict[str, int]:
        """Compile and time all programs; return the cycles of each layer.

        Raises
        ------
        CapacityError
            When a layer does not fit the machine.
        UnsupportedModelError
            When a post-op needs what the machine does not have.
        """
        found: dict[str, int] = {}
        for graph in self.subgraphs:
            found |= _cycles(graph, self.machine, how.schedule(graph, self.machine))
        return found

    def cycles_beside(self, name: str, before: int, how: Compiling) -> dict[str, int]:
        """Compile and time a layer with those beside it; return what each takes.

        Layers before it may load its operands ahead; the one behind may be a pool that joins it.

        Parameters
        ----------
        name : str
            The layer.
        before : int
            Layers before it.
        how : Compiling

        Raises
        ------
        CapacityError, UnsupportedModelError
            As `cycles`.
        """
        graph = next(g for g in self.subgraphs if any(x.name == name for x in g.layers))
        window = _window(graph, name, before, self.machine)
        given = {spec.name for spec in graph.inputs}
        schedule = how.schedule(window, self.machine)
        if schedule.forms is None:
            # Only what the host packs lies in a form of its own, as in the network.
            forms = Lowering(window, self.machine, schedule, timing_only=True).run().forms
            schedule = replace(schedule, forms={n: f for n, f in forms.items() if n in given})
        return _cycles(window, self.machine, schedule)


def _cycles(graph: Subgraph, machine: VTAConfig, schedule: Schedule) -> dict[str, int]:
    lowered = Lowering(graph, machine, schedule, timing_only=True).run()
    program = make_program(graph, lowered, machine)
    return layer_cycles(program, machine)


def _window(graph: Subgraph, name: str, before: int, machine: VTAConfig) -> Subgraph:
    """Return a subgraph of a layer, some layers before it and the one behind it."""
    at = next(i for i, layer in enumerate(graph.layers) if layer.name == name)
    layers = graph.layers[max(at - before, 0) : at + 2]
    planes = tensor_planes(graph, machine)
    made = {layer.output for layer in layers}
    given = {spec.name: spec for spec in graph.inputs}
    makers = {layer.output: layer for layer in graph.layers}
    inputs = []
    for tensor in dict.fromkeys(n for layer in layers for n in layer.inputs if n not in made):
        if tensor in given:
            inputs.append(given[tensor])
            continue
        low, high = int8_range(planes.get(tensor), machine)
        spec = TensorSpec(
            name=tensor, shape=makers[tensor].out_shape, dtype=makers[tensor].out_dtype,
            low=low, high=high,
        )  # fmt: skip
        inputs.append(spec)
    needed = {spec.name for spec in graph.outputs} | {*_read_outside(graph, layers)}
    read = {tensor for layer in layers for tensor in layer.inputs}
    outputs = tuple(
        TensorSpec(name=layer.output, shape=layer.out_shape, dtype=layer.out_dtype)
        for layer in layers
        if layer.output in needed or layer.output not in read
    )
    return Subgraph(symbol=graph.symbol, inputs=tuple(inputs), outputs=outputs, layers=layers)


def _read_outside(graph: Subgraph, layers: tuple[Layer, ...]) -> Iterator[str]:
    for layer in graph.layers:
        if layer not in layers:
            yield from layer.inputs
