"""A quantized model with its programs: what the pipeline makes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import cpu, relax, runtime

from flow.compiler.codegen import build
from flow.outputs import as_row
from flow.program.program import Program
from flow.results.counters import counters_by_layer
from flow.results.placement import Placement
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import TSim
from flow.system.limits import UNLIMITED
from relay_passes.graph import static_shape
from relay_passes.host.rows import inputs_of
from relay_passes.integers.plan import QuantPlan
from relay_passes.partition.host_work import HostWork
from relay_passes.partition.read import FoundLayers
from vta_config.errors import UnsupportedModelError
from vta_config.hardware import VTAConfig


@dataclass(frozen=True, kw_only=True)
class CompiledModel:
    """A quantized model with its programs.

    Parameters
    ----------
    quantized : tvm.IRModule
        Integers in plain Relax: the reference that every engine must match.
    partitioned : tvm.IRModule
        The same with VTA's parts cut out.
    found : FoundLayers
        The layers of `quantized`.
    config : VTAConfig
    programs : tuple[Program, ...]
        One for each part, in order.
    host : HostWork
        What stays on the host, and why.
    plan : QuantPlan, optional
        The integers that the scales became; None for stock Relay's quantization.
    """

    quantized: Any
    partitioned: Any
    found: FoundLayers
    config: VTAConfig
    programs: tuple[Program, ...]
    host: HostWork
    plan: QuantPlan | None = None

    @property
    def crossing_bytes(self) -> int:
        """Bytes of inputs and outputs of all programs for one image, as they lie in DRAM."""
        return sum(
            tensor.bytes_in(self.config)
            for program in self.programs
            for tensor in (*program.inputs, *program.outputs)
        )

    @property
    def placement(self) -> Placement:
        """Which part runs on VTA, and which on the host."""
        programs = len(self.programs)
        return Placement.of(self.host, programs=programs, crossing_bytes=self.crossing_bytes)

    @cached_property
    def executable(self) -> Any:
        """The TVM executable: host code and VTA programs (relax.VMExecutable)."""
        return build(self.partitioned, self.config, self.programs)

    def network(self) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """Return a callable float32[1, C, H, W] → float32[values] on the virtual machine.

        An image of several inputs is a row (`relay_passes.host.rows`). The values are those of all
        outputs, one after the other.
        """
        machine = relax.VirtualMachine(self.executable, cpu())
        shapes = [static_shape(param) for param in self.partitioned["main"].params]

        def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
            inputs = map(np.ascontiguousarray, inputs_of(image, shapes))
            result = machine["main"](*map(runtime.tensor, inputs))
            return as_row(tensor.numpy() for tensor in _tensors(result))

        return run

    @cached_property
    def simulators(self) -> tuple[ProgramSim, ...]:
        """Each program on the functional simulator, checked."""
        return tuple(ProgramSim(program, limits=UNLIMITED) for program in self.programs)

    def counters_by_layer(self) -> dict[str | None, dict[str, int]]:
        """Count bytes, operations and instructions of each layer for one image.

        By layer, None for what works for none in any program.
        """
        result: dict[str | None, dict[str, int]] = {}
        for sim in self.simulators:
            for layer, counts in counters_by_layer(sim).items():
                total = result.setdefault(layer, dict.fromkeys(counts, 0))
                for key, value in counts.items():
                    total[key] += value
        return result

    @cached_property
    def timed(self) -> tuple[TSim, ...]:
        """Each program on the cycle model, timed for the machine's generation of hardware."""
        return tuple(TSim(program, limits=UNLIMITED) for program in self.programs)

    def save(self, path: Path) -> tuple[Path, ...]:
        """Write the program to `path`, a ``.vta`` file; of several each with its name before that.

        Raises
        ------
        UnsupportedModelError
            When no layer runs on VTA.
        """
        if not self.programs:
            raise UnsupportedModelError(
                str(path),
                "must have a layer that runs on VTA",
                got="none",
                hint="run vta-flow deploy to see the reasons",
            )
        paths = [path]
        if len(self.programs) > 1:
            paths = [path.with_name(f"{path.stem}.{p.symbol}{path.suffix}") for p in self.programs]
        for program, file in zip(self.programs, paths, strict=True):
            program.save(file)
        return tuple(paths)


def _tensors(result: Any) -> Iterable[Any]:
    """Return what ``main`` gives as tensors, one or several."""
    return [result] if hasattr(result, "numpy") else result
