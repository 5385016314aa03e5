"""The limits of the portable subset (docs/machine.md): what every stock VTA core has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from vta_config.hardware import VTAConfig

#: The stock Chisel core has so many micro-ops, whatever the machine's file says (docs/machine.md).
PORTABLE_UOPS: Final = 2048
#: Dependency tokens that the hardware counts between two modules (docs/timing.md).
MAX_TOKENS: Final = 255
#: A shift by a register or beyond 15 is not portable (docs/machine.md); several immediate shifts
#: are.
MAX_SHIFT: Final = 15


def uop_room(config: VTAConfig) -> int:
    """Return the micro-ops that a program may hold at a time."""
    return min(config.uop_depth, PORTABLE_UOPS)
