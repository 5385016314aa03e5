"""The words of a program file's CONFIG section: the machine as the C++ core reads it.

The core's indices, ranges and capability bits (``flow/sim/core/machine.gen.h``) are generated from
here by `vta_config.generate`; docs/program.md shows the words to people.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from vta_config.hardware import BURST_BEATS, BUS_BITS, CAPABILITIES, VTAConfig


@dataclass(frozen=True, slots=True)
class ConfigWord:
    """One u32 of the CONFIG section.

    Parameters
    ----------
    name : str
        That of an attribute of `VTAConfig`, or of what else the section says.
    low, high : int
        The values that it may have.
    """

    name: str
    low: int = 0
    high: int = (1 << 32) - 1


def _ranged(name: str) -> ConfigWord:
    return ConfigWord(name, *next(f.metadata["range"] for f in fields(VTAConfig) if f.name == name))


WORDS: Final = (
    _ranged("log_inp_width"),
    _ranged("log_wgt_width"),
    _ranged("log_acc_width"),
    _ranged("log_batch"),
    _ranged("log_block"),
    _ranged("log_uop_buff_bytes"),
    _ranged("log_inp_buff_bytes"),
    _ranged("log_wgt_buff_bytes"),
    _ranged("log_acc_buff_bytes"),
    ConfigWord("bus_bits", min(BUS_BITS), max(BUS_BITS)),
    ConfigWord("capabilities", 0, (1 << len(CAPABILITIES)) - 1),
    ConfigWord("clock_hz"),
    ConfigWord("arena_bytes"),
    ConfigWord("constants_at"),
    ConfigWord("burst_beats", min(BURST_BEATS), max(BURST_BEATS)),
    ConfigWord("reserved"),
)


def capability_bits(config: VTAConfig) -> int:
    """Return the machine's capabilities as bits, in the order of `CAPABILITIES`."""
    return sum(1 << i for i, name in enumerate(CAPABILITIES) if name in config.capabilities)


def config_words(config: VTAConfig, *, arena_bytes: int = 0, constants_at: int = 0) -> list[int]:
    """Return `config` as the words of a CONFIG section.

    Parameters
    ----------
    config : VTAConfig
    arena_bytes : int
        Bytes of the program's arena.
    constants_at : int
        Bytes from its start to the constants.
    """
    others = {
        "capabilities": capability_bits(config),
        "arena_bytes": arena_bytes,
        "constants_at": constants_at,
        "reserved": 0,
    }
    return [int(others.get(w.name, getattr(config, w.name, 0))) for w in WORDS]


def word_of(words: tuple[int, ...], name: str) -> int:
    """Return the word called `name` of a CONFIG section."""
    return words[[w.name for w in WORDS].index(name)]
