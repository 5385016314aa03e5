"""What a user could change: the machines and options that are tried."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from flow.options import OBJECTIVES
from vta_config.errors import ConfigError
from vta_config.portable import PORTABLE_UOPS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flow.compiler.shapes import Objective
    from vta_config.hardware import VTAConfig

#: LOG_WGT_WIDTH of weights of 4 bits.
_LOG_4_BITS: Final = 2
#: Buffers in the order in which they are doubled.
_BUFFERS: Final = ("inp", "wgt", "acc")
_OBJECTIVE: Final = "--objective"


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A machine, or an option, that may help.

    Parameters
    ----------
    name : str
        A few words.
    sets : mapping
        What is set otherwise: keys of the machine's file, or an option.
    machine : VTAConfig, optional
        None where it cannot be built.
    objective : {"balanced", "latency"}, optional
        Another objective of the compiler.
    quantizes : bool
        Whether the network is quantized again: its numbers depend on what is changed.
    weight_bits : int, optional
        Bits of all weights, where it is quantized for others.
    reason : str
        Why there is no such machine, or why it would change nothing.
    """

    name: str
    sets: Mapping[str, Any] = field(default_factory=dict)
    machine: VTAConfig | None = None
    objective: Objective | None = None
    quantizes: bool = False
    weight_bits: int | None = None
    reason: str = ""


def candidates(machine: VTAConfig, objective: Objective) -> Iterator[Candidate]:
    """Yield what is tried in place of a machine and an objective, one change at a time.

    Buffers are powers of two, so that the next larger one has twice the bytes. Where instructions
    have no room for its addresses, another buffer is halved for it.
    """
    yield wider_bus(machine)
    for name in _BUFFERS:
        larger = _doubled(machine, name)
        yield larger
        if larger.machine is None:
            for other in _BUFFERS:
                if other != name and (pair := _doubled(machine, name, other)).machine is not None:
                    yield replace(pair, name=f"{name} ×2, {other} ÷2")
    if machine.uop_depth >= PORTABLE_UOPS:
        holds = f"programs keep at most {PORTABLE_UOPS:,} micro-ops, which it holds already"
        yield Candidate(name="uop buffer ×2", reason=holds)
    else:
        yield _doubled(machine, "uop")
    yield _varied(
        f"block of {2 * machine.block}",
        machine,
        quantizes=True,
        log_block=machine.log_block + 1,
    )
    if machine.log_wgt_width > _LOG_4_BITS:
        # The buffer keeps its elements: instructions have no room for more.
        yield _varied(
            "weights of 4 bits",
            machine,
            quantizes=True,
            weight_bits=4,
            log_wgt_width=_LOG_4_BITS,
            log_wgt_buff_bytes=machine.log_wgt_buff_bytes - (machine.log_wgt_width - _LOG_4_BITS),
        )
    for other in OBJECTIVES:
        if other != objective:
            name = f"{_OBJECTIVE} {other}"
            yield Candidate(name=name, sets={_OBJECTIVE: other}, machine=machine, objective=other)


def wider_bus(machine: VTAConfig) -> Candidate:
    """Return a machine whose bus moves twice the bytes in a cycle."""
    bits = 2 * machine.bus_bits
    return _varied(f"bus of {bits} bits", machine, bus_bits=bits)


def _doubled(machine: VTAConfig, name: str, halved: str = "") -> Candidate:
    changes = {_field(name): getattr(machine, _field(name)) + 1}
    if halved:
        changes[_field(halved)] = getattr(machine, _field(halved)) - 1
    return _varied(f"{name} buffer ×2", machine, **changes)


def _field(buffer: str) -> str:
    return f"log_{buffer}_buff_bytes"


def _varied(
    name: str,
    machine: VTAConfig,
    *,
    quantizes: bool = False,
    weight_bits: int | None = None,
    **changes: Any,
) -> Candidate:
    try:
        other = replace(machine, **changes)
    except ConfigError as error:
        # The machine's own name and the advice at the end say nothing of the change.
        sentence = str(error).removeprefix(f"{machine.name}.").partition("; ")[0]
        return Candidate(name=name, reason=f"cannot be built: {sentence}")
    own, then = machine.to_json(), other.to_json()
    sets = {key: value for key, value in then.items() if own.get(key) != value}
    return Candidate(
        name=name, sets=sets, machine=other, quantizes=quantizes, weight_bits=weight_bits
    )


def sram_bytes(machine: VTAConfig) -> int:
    """Return the bytes of all scratchpads, with the out buffer, which is as deep as acc."""
    logs = [getattr(machine, _field(name)) for name in ("inp", "wgt", "acc", "uop")]
    buffers: int = sum(1 << log for log in logs)
    return buffers + machine.acc_depth * machine.out_elem_bytes


def multipliers(machine: VTAConfig) -> int:
    """Return the multipliers of the GEMM unit."""
    return machine.batch * machine.block * machine.block
