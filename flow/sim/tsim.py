"""The cycle-level simulator: how long a program takes, layer by layer, and what bounds it.

Programs are data independent, so the core times a stream once (flow/sim/core/timing.cc) and then
executes it with the functional simulator's functions in the order that the timing gives.
docs/timing.md describes the model.
"""

from __future__ import annotations

import argparse
import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flow.program.program import Program
from flow.sim.core_library import core_function
from flow.sim.plots import plot_layers, plot_roofline
from flow.sim.program_sim import ProgramResult, ProgramSim
from flow.sim.timing_report import TimingResult, layer_ends, layers_of, summarize
from flow.sim.trace import write_trace
from flow.system import process
from flow.system.limits import DEFAULT, add_options, of_options
from vta_config.config_words import config_words
from vta_config.errors import ConfigError, FlowError
from vta_config.isa import encode
from vta_config.timing import PROFILES, TimingProfile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from flow.sim.fsim import FSim
    from flow.system.limits import Limits
    from vta_config.hardware import VTAConfig

#: Columns of the table that the core fills, one row an instruction (InsnTiming in timing.h).
COLUMNS: Final = (
    "dispatch",
    "start",
    "done",
    "wait_fetch",
    "wait_prev",
    "wait_next",
    "cause",
    "cause_insn",
    "beats",
    "bursts",
    "request",
    "wait_queue",
)


def profile_of(profile: str | TimingProfile) -> TimingProfile:
    """Return a timing profile by its name.

    Raises
    ------
    ConfigError
        When there is none of that name.
    """
    if isinstance(profile, TimingProfile):
        return profile
    if profile not in PROFILES:
        raise ConfigError(
            "profile",
            f"must be among {', '.join(PROFILES)}",
            got=repr(profile),
            hint="chisel is the stock hardware",
        )
    return PROFILES[profile]


def time_stream(
    sim: FSim, profile: str | TimingProfile = "chisel", *, stream_address: int = 0
) -> tuple[int, dict[str, NDArray[np.int64]]]:
    """Time the stream of `sim`.

    Parameters
    ----------
    sim : FSim
    profile : str or TimingProfile
    stream_address : int
        Byte address of the first instruction, a multiple of 8. Buses of 128 bits and more fetch
        otherwise where it is not the start of a burst.

    Returns
    -------
    cycles : int
        From the launch until FINISH is done.
    table : dict of str to int64[insns]
        The columns `COLUMNS`; cycles count from the launch.

    Raises
    ------
    DeadlockError
        When no module can go on; the sentence names who waits for whom since which cycle.
    HazardError
        When more tokens are outstanding than the hardware counts.
    ConfigError
        When `stream_address` is not a multiple of 8.
    """
    table = np.zeros((sim.insn_count, len(COLUMNS)), np.int64)
    cycles = int(sim.time(profile_of(profile).text, table, stream_address))
    return cycles, {name: table[:, i].copy() for i, name in enumerate(COLUMNS)}


def time_insns(
    config: VTAConfig,
    insns: bytes,
    profile: str | TimingProfile | None = None,
    *,
    stream_address: int = 0,
) -> tuple[int, dict[str, NDArray[np.int64]]]:
    """Time a stream that is known to be legal: no memory, no checks but its encoding.

    Parameters
    ----------
    config : VTAConfig
    insns : bytes
        16 bytes per instruction; it need not end with FINISH.
    profile : str or TimingProfile, optional
        By default the machine's.
    stream_address : int
        As of `time_stream`.

    Returns and raises as `time_stream`; also DecodeError.
    """
    table = np.zeros((len(insns) // 16, len(COLUMNS)), np.int64)
    text = profile_of(profile or config.timing).text
    cycles = core_function("vta.time_insns")(
        config_words(config), insns, text, table, stream_address
    )
    return int(cycles), {name: table[:, i].copy() for i, name in enumerate(COLUMNS)}


def layer_cycles(
    program: Program, machine: VTAConfig, profile: str | TimingProfile | None = None
) -> dict[str, int]:
    """Time a program; return the cycles from the end of the layer before to that of each layer.

    Parameters
    ----------
    program : Program
    machine : VTAConfig
        That times it: the one of the program, or one that its instructions also run on.
    profile : str or TimingProfile, optional
        By default the machine's own.
    """
    stream = b"".join(encode(insn, machine) for insn in program.insns)
    cycles, table = time_insns(machine, stream, profile)
    names, layer = layers_of(program)
    ends = layer_ends(layer, len(names), program.insns, table["done"], cycles).tolist()
    starts = [0, *ends[:-1]]
    return {name: end - start for name, start, end in zip(names, starts, ends, strict=True)}


class TSim:
    """Time a program, and run it.

    Parameters
    ----------
    program : Program
    profile : str or TimingProfile, optional
        By default the one of the program's machine.
    limits : Limits
        What it may cost.
    stream_address : int
        Byte address that a driver puts the first instruction at, as of `time_stream`.

    Raises
    ------
    DecodeError, CapacityError, HazardError, DeadlockError
        When the program is not legal, as `flow.sim.program_sim.ProgramSim`.
    ConfigError
        When there is no such profile, or `stream_address` is not a multiple of 8.
    """

    def __init__(
        self,
        program: Program,
        *,
        profile: str | TimingProfile | None = None,
        limits: Limits = DEFAULT,
        stream_address: int = 0,
    ) -> None:
        """Verify the program and time it."""
        self.program = program
        self.profile = program.config.timing if profile is None else profile
        self._functional = ProgramSim(program, limits=limits)
        self.cycles, self.table = time_stream(
            self._functional.sim, self.profile, stream_address=stream_address
        )

    @cached_property
    def result(self) -> TimingResult:
        """What the timing says: the whole, layers, modules."""
        name = self.profile if isinstance(self.profile, str) else "custom"
        timing = profile_of(self.profile)
        return summarize(self.program, self.cycles, self.table, name, timing)

    @property
    def cost(self) -> dict[str, int]:
        """What checking and running takes: steps, bytes."""
        return self._functional.sim.cost

    def run(self, inputs: Sequence[NDArray[Any]]) -> ProgramResult:
        """Run on int8[N, C, H, W] inputs, every instruction when it starts."""
        return self._functional.run(inputs, timed=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the cycles of a program file, layer by layer."""
    parser = argparse.ArgumentParser(prog="python -m flow.sim.tsim", description=main.__doc__)
    parser.add_argument("program", type=Path, help="a .vta file")
    parser.add_argument("--profile", choices=tuple(PROFILES), help="default: the machine's")
    parser.add_argument(
        "--stream-address",
        type=lambda text: int(text, 0),
        default=0,
        metavar="BYTE",
        help="address of the first instruction, e.g. 0x10 (default: the start of a page)",
    )
    parser.add_argument("--trace", type=Path, metavar="JSON", help="write a trace for Perfetto")
    parser.add_argument(
        "--plots", type=Path, metavar="DIR", help="folder for the plots roofline and layers"
    )
    add_options(parser)
    options = parser.parse_args(arguments)
    try:
        _show(options)
    except FlowError as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    return 0


def _show(options: argparse.Namespace) -> None:
    """Time a program file and write what was asked for."""
    limits = of_options(options)
    program = Program.load(options.program, limits=limits)
    sim = TSim(
        program,
        profile=options.profile,
        limits=limits,
        stream_address=options.stream_address,
    )
    result = sim.result
    if options.trace:
        write_trace(sim, options.trace)
    if options.plots:
        plot_roofline(result, program.config, options.plots / "roofline")
        plot_layers(result, options.plots / "layers")
    cost = sim.cost
    sys.stdout.write(result.table() + "\n")
    sys.stdout.write(f"takes {cost['steps']:,} steps, {cost['bytes']:,} bytes of memory\n")


if __name__ == "__main__":
    sys.exit(process.run("python -m flow.sim.tsim", lambda work: main()))
