"""A compiled program on the functional simulator: tensors in, every layer's tensor out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flow.sim.fsim import FSim
from flow.system.limits import DEFAULT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from flow.program.program import Program
    from flow.system.limits import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramResult:
    """What a run gives: the outputs in call order, and every layer's tensor by its name."""

    outputs: list[NDArray[Any]]
    layers: dict[str, NDArray[Any]]


class ProgramSim:
    """Check a program once and run it on tensors.

    Parameters
    ----------
    program : Program
    limits : Limits
        What it may cost.
    kernels : str
        As `FSim` takes them.

    Raises
    ------
    DecodeError, CapacityError, HazardError, DeadlockError
        When the program is not legal, or costs more than `limits` allow.
    ConfigError
        When this processor does not have `kernels`.
    """

    def __init__(self, program: Program, *, limits: Limits = DEFAULT, kernels: str = "") -> None:
        """Place the program's arena behind the first page and verify the stream."""
        self.program = program
        self._base = program.arena_alignment
        self.sim = FSim(
            program.config,
            program.insns_at(self._base),
            arena=(self._base, program.arena_bytes),
            origins=lambda index: str(program.insns[index].origin),
            limits=limits,
            kernels=kernels,
        )
        for fill in program.fills:
            self.sim.write(self._base + fill.address, bytes([fill.byte]) * fill.size_bytes)
        self.sim.write(self._base + program.constants_at, program.constants)
        self.sim.verify()

    def run(
        self, inputs: Sequence[NDArray[Any]], *, seed: int | None = None, timed: bool = False
    ) -> ProgramResult:
        """Run on int8[N, C, H, W] inputs; with `seed`, in a random token-legal order.

        With `timed`, in the order of the timing that `flow.sim.tsim` has made.
        """
        program, config = self.program, self.program.config
        for port, x in zip(program.inputs, inputs, strict=True):
            self.sim.write(self._base + port.address, port.pack(x.reshape(port.shape), config))
        tensors = [record.output for record in program.layers]
        taps = [
            (record.last_store, self._base + t.address, t.bytes_in(config))
            for record, t in zip(program.layers, tensors, strict=True)
        ]
        snapshots = self.sim.run(seed=seed, taps=taps, timed=timed)
        layers = {
            record.output.name: t.unpack(data, config)
            for record, t, data in zip(program.layers, tensors, snapshots, strict=True)
        }
        outputs = [
            port.unpack(self.sim.read(self._base + port.address, port.bytes_in(config)), config)
            for port in program.outputs
        ]
        return ProgramResult(outputs=outputs, layers=layers)
