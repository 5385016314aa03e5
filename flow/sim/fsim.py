"""The functional simulator: a checked program, its memory, and runs of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flow.sim.core_library import core_function
from flow.system.limits import DEFAULT
from vta_config.config_words import config_words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from flow.system.limits import Limits
    from vta_config.hardware import VTAConfig


class FSim:
    """Check an instruction stream and run it on the functional simulator.

    Everything that does not depend on memory is checked here: encoding, ranges, tokens, FINISH.
    What depends on the micro-ops in memory (indices, scratchpad reads, races) is checked by
    `verify`, or by the first `run` after the micro-ops have been written.

    Parameters
    ----------
    config : VTAConfig
        The machine.
    insns : bytes
        The stream, 16 bytes per instruction.
    arena : (int, int) or list of (int, int)
        Memory segments as (byte address, bytes); zero at first.
    strict : bool
        Require the portable subset, balanced tokens, a FINISH that waits for everything, and
        freedom from races; otherwise only what keeps the simulator itself safe.
    origins : callable or sequence, optional
        Where instruction i comes from, for messages.
    kernels : str
        Inner loops to use: plain; on x86 avx2, avx512bw, avx512vnni or amx; on 64-bit ARM neon or
        neon_dot; amx_model for tests. By default the fastest.
    defined : list of (int, int)
        Memory (byte address, bytes) that holds data before the run; by default all of it.
    limits : Limits
        What it may cost.

    Raises
    ------
    DecodeError, CapacityError, HazardError, DeadlockError
        When the stream is not a legal program; the sentence names instruction and origin.
        CapacityError also when it costs more than `limits` allow.
    ConfigError
        When this processor does not have `kernels`.
    """

    def __init__(
        self,
        config: VTAConfig,
        insns: bytes,
        *,
        arena: tuple[int, int] | list[tuple[int, int]],
        strict: bool = True,
        origins: Callable[[int], str] | Sequence[str] | None = None,
        kernels: str = "",
        defined: Sequence[tuple[int, int]] = (),
        limits: Limits = DEFAULT,
    ) -> None:
        """Decode and check the stream."""
        segments = arena if isinstance(arena, list) else [arena]
        name_of: Callable[[int], str] | None = None
        if origins is not None:
            name_of = origins if callable(origins) else origins.__getitem__
        self.config = config
        self.insn_count = len(insns) // 16
        self._module: Any = core_function("vta.fsim.create")(
            config_words(config),
            bytes(insns),
            [int(v) for segment in segments for v in segment],
            strict,
            name_of,
            kernels,
            [int(v) for span in defined for v in span],
            limits.max_steps,
            limits.max_bytes,
        )
        self._write = self._module["write"]
        self._read = self._module["read"]
        self._run = self._module["run"]

    @property
    def kernels(self) -> str:
        """Name of the inner loops in use."""
        return str(self._module["kernels"]())

    def counters(self, begin: int = 0, end: int | None = None) -> dict[str, int]:
        """Count what instructions [begin, end) do, as the original simulator counts.

        Returns
        -------
        dict
            inp_bytes, wgt_bytes, acc_bytes, uop_bytes, out_bytes (without padding), gemm_ops
            (without reset), alu_ops, insns.
        """
        counts = self._module["counters"](begin, self.insn_count if end is None else end)
        return {str(name): int(value) for name, value in counts.items()}

    @property
    def cost(self) -> dict[str, int]:
        """What checking and running takes, as `flow.system.limits.Limits` counts: steps, bytes."""
        return {str(name): int(value) for name, value in self._module["cost"]().items()}

    def write(self, address: int, array: NDArray[Any] | bytes) -> None:
        """Write the bytes of `array` (C order) at byte `address`.

        Raises
        ------
        CapacityError
            When they do not lie inside one segment.
        """
        data = np.frombuffer(array, np.uint8) if isinstance(array, bytes) else array
        data = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
        if not data.flags.writeable:
            data = data.copy()  # DLPack does not pass read-only arrays
        self._write(address, data)

    def read(self, address: int, nbytes: int) -> NDArray[np.uint8]:
        """Read uint8[nbytes] from byte `address`.

        Raises
        ------
        CapacityError
            When they do not lie inside one segment.
        """
        data = np.empty(nbytes, np.uint8)
        self._read(address, data)
        return data

    def verify(self) -> None:
        """Check what depends on the micro-ops in memory; `run` does so by itself when needed.

        Raises
        ------
        CapacityError
            When an index leaves its scratchpad, or loop nests take more memory than the limits
            allow.
        HazardError
            When something is read that was never written, two modules race, or an ALU operation
            touches what the one just before it wrote.
        """
        self._module["verify"]()

    def time(self, timing: str, table: NDArray[np.int64], stream_address: int = 0) -> int:
        """Time the stream; `flow.sim.tsim.time_stream` is the face of this.

        Parameters
        ----------
        timing : str
            A timing profile's numbers, `vta_config.timing.TimingProfile.text`.
        table : int64[insns, columns]
            Filled with what happens to each instruction when.
        stream_address : int
            Byte address of the first instruction.

        Returns
        -------
        int
            Cycles from the launch until everything is done.

        Raises
        ------
        DeadlockError, HazardError
            When the hardware would hang or lose a token.
        ConfigError
            When `timing` is not a profile, `table` has another size, or `stream_address` is no
            multiple of 8.
        """
        return int(self._module["time"](timing, table, stream_address))

    def run(
        self,
        *,
        seed: int | None = None,
        taps: Sequence[tuple[int, int, int]] = (),
        timed: bool = False,
    ) -> list[NDArray[np.uint8]]:
        """Run the program on the memory as it is.

        Parameters
        ----------
        seed : int, optional
            Run the modules in a random token-legal order instead of stream order.
        taps : sequence of (int, int, int)
            Snapshots to take, as (instruction index, byte address, bytes): the memory right after
            that instruction.
        timed : bool
            Run in the order that `time` found, which must have been called.

        Returns
        -------
        list of uint8[bytes]
            One snapshot a tap.

        Raises
        ------
        CapacityError
            When a tap lies outside memory or the stream, or snapshots take more memory than the
            limits leave.
        FlowError
            As `verify`.
        """
        flat = [int(v) for tap in taps for v in tap]
        snapshots = self._module["run_timed"](flat) if timed else self._run(seed, flat)
        return [np.frombuffer(bytes(data), np.uint8) for data in snapshots]
