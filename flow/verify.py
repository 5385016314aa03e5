"""Compare engines bit for bit: the host's integers are the reference, tensor by tensor.

The quantized Relax module runs on the host with every layer's tensor as a result. The same image
then goes through fsim in program order, fsim with its modules in a random token-legal order (which
exposes a missing token), tsim (in the order in which instructions start) and the numpy oracle,
whose tensors are captured as they are stored; and through the TVM executable, whose float32 results
must be the same bits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flow.compiled_model import CompiledModel
from flow.data.datasets import Dataset
from flow.outputs import as_row
from flow.results.evaluate import Network, Rows, prefetch
from flow.results.report import Exactness
from flow.sim.oracle import run_program
from flow.stages import Progress
from flow.system.limits import UNLIMITED
from flow.tally import Tally
from relay_passes.graph import GraphBuilder, Module, read_graph, replace_main
from relay_passes.host.run import HostModule
from vta_config.text import shown_name

#: GEMM operations that the oracle runs in about a second; larger programs get one image of it.
ORACLE_GEMM_OPS: Final = 1_000_000
#: Images whose integers are kept, since layers are compared with float32 on them, too.
KEPT_IMAGES: Final = 4
Tensors = Mapping[str, NDArray[Any]]


def exactness_of(rows: Collection[NDArray[np.float32]]) -> Exactness:
    """Return what is known of images whose tensors were all equal, a row with their number each."""
    tensors = sum(int(row[0]) for row in rows)
    return Exactness(images=len(rows), tensors=tensors, mismatches=0, first="")


@dataclass(slots=True)
class Verifier:
    """Everything that a comparison needs, built once.

    Parameters
    ----------
    compiled : CompiledModel
        The model.
    network : callable
        The TVM executable on the engine that the user chose.
    fast : bool
        Whether the host computes convolutions with BLAS, to the same integers; the plain reference
        otherwise.
    """

    compiled: CompiledModel
    network: Network
    fast: bool = False
    _first: dict[bytes, list[NDArray[Any]]] = field(default_factory=dict, init=False)
    _names: tuple[str, ...] = field(init=False)
    _host: HostModule = field(init=False)
    _slow: bool = field(init=False)

    def __post_init__(self) -> None:
        """Compile the host module with all tensors that programs read or layers write."""
        mod, self._names = expose(self.compiled)
        self._host = HostModule(mod, fast=self.fast)
        counters = self.compiled.counters_by_layer().values()
        self._slow = sum(c["gemm_ops"] for c in counters) > ORACLE_GEMM_OPS

    def run(self, images: Dataset, progress: Progress, kept: Rows | None = None) -> Exactness:
        """Compare on every image; return what was counted.

        Parameters
        ----------
        images : Dataset
        progress : callable
            Told after every image.
        kept : Rows, optional
            Has the number of tensors that were equal, by image, of images that were compared
            before; gets those of the others. What differs is compared each time.
        """
        known = {} if kept is None else kept.found(1)
        counts = {index: int(row[0]) for index, row in known.items()}
        first, mismatches = "", 0
        places = [index for index in range(len(images)) if index not in counts]
        for index, image in zip(places, prefetch(images.at(places)), strict=True):
            tally = Tally()
            results = self._results(image)
            own = len(results) - len(self._names)
            reference = dict(zip(self._names, results[own:], strict=True))
            for engine, tensors in self._engines(reference, index):
                for name, got in tensors.items():
                    tally.compare(
                        f"{shown_name(name)} on {engine}, image {index}", got, reference[name]
                    )
            values = np.asarray(self.network(image))
            tally.compare(
                f"results of the executable, image {index}", values, as_row(results[:own])
            )
            counts[index] = tally.tensors
            mismatches += tally.mismatches
            first = first or tally.first
            if kept is not None and not tally.mismatches:
                kept.keep(index, np.array([tally.tensors], np.float32))
            progress(len(counts), len(images))
        if kept is not None:
            kept.write()
        return Exactness(
            images=len(images), tensors=sum(counts.values()), mismatches=mismatches, first=first
        )

    def reference(self, image: NDArray[np.float32]) -> Tensors:
        """Return what the host computes for float32[1, C, H, W]: what layers write, by name."""
        results = self._results(image)
        own = len(results) - len(self._names)
        return dict(zip(self._names, results[own:], strict=True))

    def _results(self, image: NDArray[np.float32]) -> list[NDArray[Any]]:
        """Return the results of the host module; those of the first images are kept."""
        key = sha256(np.ascontiguousarray(image).tobytes()).digest()
        if key in self._first:
            return self._first[key]
        results = self._host(image)
        if len(self._first) < KEPT_IMAGES:
            self._first[key] = results
        return results

    def _engines(self, reference: Tensors, index: int) -> Iterator[tuple[str, Tensors]]:
        """Yield what each engine stored, tensor by tensor."""
        for sim, timed in zip(self.compiled.simulators, self.compiled.timed, strict=True):
            inputs = _inputs(sim.program.inputs, reference)
            runs = (
                ("fsim", sim.run),
                ("fsim in random order", partial(sim.run, seed=index)),
                ("tsim", timed.run),
            )
            for engine, run in runs:
                result = run(inputs)
                outputs = {
                    p.name: x for p, x in zip(sim.program.outputs, result.outputs, strict=True)
                }
                yield engine, result.layers | outputs
            if index == 0 or not self._slow:
                oracle = run_program(sim.program, inputs, limits=UNLIMITED)
                yield (
                    "oracle",
                    {r.output.name: oracle.layers[r.name] for r in sim.program.layers},
                )


def _inputs(ports: Sequence[Any], reference: Tensors) -> list[NDArray[np.int8]]:
    """Return what a program reads, in its shapes."""
    return [np.asarray(reference[port.name], np.int8).reshape(port.shape) for port in ports]


def expose(compiled: CompiledModel) -> tuple[Module, tuple[str, ...]]:
    """Return the quantized module with all that programs read or layers write, and the names."""
    mod = compiled.quantized
    graph = read_graph(mod)
    read = {port.name for program in compiled.programs for port in program.inputs}
    tensors = {binding.var.name: binding.var for binding in graph.bindings}
    tensors |= {param.name: param for param in graph.params}
    found = {name: var for name, var in tensors.items() if name in read}
    found |= {chain.output_name: chain.output for chain in compiled.found.chains}
    builder = GraphBuilder()
    builder.bindings = list(graph.bindings)
    results = [*graph.results, *found.values()]
    return replace_main(mod, builder, graph, results), tuple(found)
