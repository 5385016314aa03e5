"""Micro-op allocation: each distinct sequence is stored once, and loaded once if it fits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from flow.compiler.tokens import Emitted
from vta_config.errors import CapacityError
from vta_config.isa import UOP_BYTES, Insn, Memory, Module, Opcode, encode_uop
from vta_config.origin import Origin, Purpose
from vta_config.portable import uop_room

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from flow.compiler.memory import Constants
    from vta_config.hardware import VTAConfig

UopSequence = tuple[tuple[int, int, int], ...]


class UopAllocator:
    """Give micro-ops a place in the uop buffer, loading new ones in batches."""

    def __init__(self, config: VTAConfig, constants: Constants) -> None:
        """Start with an empty uop buffer."""
        self._config, self._constants = config, constants
        self._at: dict[UopSequence, int] = {}
        self._free = 0

    def assign(self, layer: Sequence[Emitted]) -> Iterator[Emitted]:
        """Yield a layer's instructions with micro-ops placed, LOAD UOP before their first use.

        Micro-ops of a whole layer are loaded at once where they fit; otherwise as many
        instructions' as do.

        Raises
        ------
        CapacityError
            When one instruction's micro-ops do not fit the buffer.
        """
        start = 0
        while start < len(layer):
            batch, end = self._window(layer, start)
            if end < len(layer) and self._free:
                self._at, self._free = {}, 0
                batch, end = self._window(layer, start)
            if end == start:
                raise CapacityError(
                    layer[start].insn.origin,
                    f"its micro-ops must fit the uop buffer of {uop_room(self._config.uop_depth)}",
                    got=len(layer[start].uops),
                    hint="choose a machine with a larger uop buffer",
                )
            if batch:
                yield from self._load(batch, layer[start].insn.origin.layer)
            yield from map(self._place, layer[start:end])
            start = end

    def _window(self, layer: Sequence[Emitted], start: int) -> tuple[list[UopSequence], int]:
        """Collect new sequences from `start` on while they fit together; return where they end."""
        batch: dict[UopSequence, None] = {}
        free = uop_room(self._config.uop_depth) - self._free
        for index in range(start, len(layer)):
            uops = layer[index].uops
            if uops and uops not in self._at and uops not in batch:
                if len(uops) > free:
                    return list(batch), index
                batch[uops] = None
                free -= len(uops)
        return list(batch), len(layer)

    def _place(self, emitted: Emitted) -> Emitted:
        if not emitted.uops:
            return emitted
        begin = self._at[emitted.uops]
        insn = emitted.insn.having(uop_begin=begin, uop_end=begin + len(emitted.uops))
        return replace(emitted, insn=insn)

    def _load(self, batch: list[UopSequence], layer: str | None) -> Iterator[Emitted]:
        words = [
            encode_uop(self._config, dst_idx=dst, src_idx=src, wgt_idx=wgt)
            for uops in batch
            for dst, src, wgt in uops
        ]
        address = self._constants.add(np.array(words, np.uint32))
        base = self._free
        for uops in batch:
            self._at[uops] = self._free
            self._free += len(uops)
        values = {
            "memory_type": int(Memory.UOP),
            "sram_base": base,
            "dram_base": address // UOP_BYTES,
            "y_size": 1,
            "x_size": len(words),
            "x_stride": len(words),
        }
        insn = Insn(Opcode.LOAD, values, Origin(layer=layer, purpose=Purpose.UOPS))
        assert insn.module == Module.COMPUTE
        yield Emitted(insn)
