"""What a user could change: the machines and options that are tried."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from flow.machines.axes import refusal, varied
from flow.options import OBJECTIVES
from flow.sim.scratchpads import capacities
from vta_config.isa import LOG_MOST_ELEMENTS
from vta_config.portable import PORTABLE_UOPS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flow.compiler.shapes import Objective
    from flow.machines.axes import AxisValue
    from vta_config.hardware import VTAConfig

#: Bits of narrow weights.
_FEW_BITS: Final = 4
#: Buffers in the order in which they are doubled.
_BUFFERS: Final = ("inp", "wgt", "acc")
#: Why a buffer that they reach cannot grow.
NO_ROOM: Final = "cannot be built: instructions and micro-ops have no bits left for its addresses"
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
        larger = _resized(f"{name} buffer ×2", machine, name)
        yield larger
        if larger.machine is None:
            pairs = (
                _resized(f"{name} ×2, {other} ÷2", machine, name, other)
                for other in _BUFFERS
                if other != name
            )
            yield from (pair for pair in pairs if pair.machine is not None)
    if machine.uop_depth >= PORTABLE_UOPS:
        holds = f"programs keep at most {PORTABLE_UOPS:,} micro-ops, which it holds already"
        yield Candidate(name="uop buffer ×2", reason=holds)
    else:
        yield _resized("uop buffer ×2", machine, "uop")
    block = 2 * machine.block
    yield _changed(f"block of {block}", machine, {"block": block}, quantizes=True)
    if machine.wgt_bits > _FEW_BITS:
        yield _changed(
            f"weights of {_FEW_BITS} bits",
            machine,
            {"weight_bits": _FEW_BITS},
            quantizes=True,
            weight_bits=_FEW_BITS,
        )
    for other in OBJECTIVES:
        if other != objective:
            name = f"{_OBJECTIVE} {other}"
            yield Candidate(name=name, sets={_OBJECTIVE: other}, machine=machine, objective=other)


def wider_bus(machine: VTAConfig) -> Candidate:
    """Return a machine whose bus moves twice the bytes in a cycle."""
    bits = 2 * machine.bus_bits
    return _changed(f"bus of {bits} bits", machine, {"bus": bits})


def _resized(name: str, machine: VTAConfig, doubled: str, halved: str = "") -> Candidate:
    sizes = capacities(machine)
    axes: dict[str, AxisValue] = {f"{doubled}_buffer": 2 * sizes[doubled]}
    if halved:
        axes[f"{halved}_buffer"] = sizes[halved] // 2
    found = _changed(name, machine, axes)
    if found.machine is None and getattr(machine, f"log_{doubled}_depth") < LOG_MOST_ELEMENTS:
        return replace(found, reason=NO_ROOM)
    return found


def _changed(
    name: str,
    machine: VTAConfig,
    axes: Mapping[str, AxisValue],
    *,
    quantizes: bool = False,
    weight_bits: int | None = None,
) -> Candidate:
    if sentence := refusal(machine, **axes):
        # The advice at the end says nothing of the change.
        return Candidate(name=name, reason=f"cannot be built: {sentence.partition('; ')[0]}")
    other = varied(machine, machine.name, **axes)
    own, then = machine.to_json(), other.to_json()
    sets = {key: value for key, value in then.items() if own.get(key) != value}
    return Candidate(
        name=name, sets=sets, machine=other, quantizes=quantizes, weight_bits=weight_bits
    )


def multipliers(machine: VTAConfig) -> int:
    """Return the multipliers of the GEMM unit."""
    return machine.batch * machine.block * machine.block
