"""Run a compiled program on the numpy oracle, instruction by instruction in program order.

Slow, and independent of the C++ core but for what a program costs: `vta_config.semantics` is all it
shares with the rest. It is also the engine ``oracle`` of the TVM runtime module, by the global
function ``vta.engine.oracle``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import tvm_ffi

from flow.program.program import PortTensor, Program
from flow.program.program_file import clipped
from flow.sim.core_library import core_function
from flow.system.limits import ORACLE, UNLIMITED
from vta_config.config_words import config_words
from vta_config.errors import CapacityError
from vta_config.semantics import Counters, Dram, MachineState, run, step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from flow.system.limits import Limits

ENGINE_FUNCTION: Final = "vta.engine.oracle"


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleResult:
    """What one run gave.

    Parameters
    ----------
    outputs : list of int8[N, C, H, W] or int32[N, C, H, W]
        In the program's order.
    layers : dict of str to int8[N, C, H, W] or int32[N, C, H, W]
        Every layer's output, by the layer's name.
    counters : Counters
        Bytes and operations.
    """

    outputs: list[NDArray[Any]]
    layers: dict[str, NDArray[Any]]
    counters: Counters


def run_program(
    program: Program, inputs: Sequence[NDArray[np.int8]], *, limits: Limits = ORACLE
) -> OracleResult:
    """Run `program` on int8[N, C, H, W] inputs; capture every layer's output as it is stored.

    Raises
    ------
    CapacityError
        When the number of inputs or a shape is not the program's, or it costs more than `limits`
        allow.
    FlowError
        As `vta_config.semantics.run` does.
    """
    check_cost(program, limits)
    if len(inputs) != len(program.inputs):
        raise CapacityError(
            program.symbol,
            f"must be given {len(program.inputs)} inputs",
            got=len(inputs),
            hint="pass them in the order of Program.inputs",
        )
    config, arena = program.config, program.new_arena()
    for port, x in zip(program.inputs, inputs, strict=True):
        if x.shape != port.shape:
            raise CapacityError(
                f"{program.symbol}.{port.name}",
                f"must have the shape {port.shape}",
                got=x.shape,
                hint="compile for this shape",
            )
        packed = port.pack(x, config)
        arena[port.address : port.address + packed.size] = packed
    state = MachineState(config=config, dram=Dram([(0, arena)]))
    taps = {record.last_store: record for record in program.layers}
    layers: dict[str, NDArray[Any]] = {}
    for index, insn in enumerate(program.insns):
        step(state, insn)
        if index in taps:
            layers[taps[index].name] = _tensor(program, taps[index].output, arena)
    outputs = [_tensor(program, port, arena) for port in program.outputs]
    return OracleResult(outputs=outputs, layers=layers, counters=state.counters)


def check_cost(program: Program, limits: Limits) -> None:
    """Check what `run_program` takes, before it takes anything.

    Raises
    ------
    CapacityError
        When that is more than `limits` allow.
    """
    words = config_words(program.config, arena_bytes=program.arena_bytes)
    cost = core_function("vta.cost")(words, program.insn_bytes)
    for got, most, what in (
        (int(cost["steps"]), limits.max_steps, "steps"),
        (int(cost["bytes"]) + program.tensor_bytes, limits.max_bytes, "bytes of memory"),
    ):
        if 0 <= most < got:
            raise CapacityError(
                clipped(program.symbol),
                f"must take at most {most} {what}",
                got=got,
                hint="allow more where you trust it (max_steps, max_bytes)",
            )


def _tensor(program: Program, port: PortTensor, arena: NDArray[np.uint8]) -> NDArray[Any]:
    size = port.bytes_in(program.config)
    data = arena[port.address : port.address + size].copy()
    return np.array(port.unpack(data, program.config))


@lru_cache(maxsize=2)
def _program(data: bytes) -> Program:
    return Program.from_bytes(data, limits=UNLIMITED)  # the core has checked what it costs


@tvm_ffi.register_global_func(ENGINE_FUNCTION, override=True)
def _engine(program_bytes: bytes, arena: Any) -> None:
    """Run a program file on an arena, uint8[arena_bytes], in place."""
    program = _program(bytes(program_bytes))
    memory = np.asarray(np.from_dlpack(arena), np.uint8)
    state = MachineState(config=program.config, dram=Dram([(0, memory)]))
    run(state, program.insns)
