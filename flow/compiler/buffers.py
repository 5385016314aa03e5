"""Scratchpad slots: which chunk lies where in inp, wgt and acc while jobs are laid out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

_NEVER = -10

#: The part of wgt that constants of a joined layer may fill: they stay while chunks come and go.
CONSTANTS_SHARE: Final = 4


class Placed(NamedTuple):
    """Where a chunk lies; whether it must be loaded, and if so only after the job before."""

    base: int
    fresh: bool
    late: bool


class SlotPool(NamedTuple):
    """A kind of chunk: its elements, and the slots of use to it, if so many fit."""

    elems: int
    slots: int = 2


@dataclass(slots=True)
class _Slot:
    """A place for one chunk: what lies there, and the last job that uses it."""

    base: int
    elems: int
    used: int
    key: Hashable = None


@dataclass(slots=True)
class SlotBuffer:
    """Cut a scratchpad into slots, one a chunk, and remember what lies in them.

    Loads of a job are issued before the job ahead of it computes, so a slot that this one still
    uses may be refilled only afterwards (`Placed.late`); with two slots or more that does not
    happen. The least recently used slot is refilled first.

    Parameters
    ----------
    capacity : int
        Elements.
    around : bool
        Whether a layer's slots lie wherever the buffer was used least recently: layer by layer they
        go around it, so that what a layer loads lies apart from what many before it do. Otherwise
        they lie at one of its ends, where the same micro-ops serve more layers.
    """

    capacity: int
    around: bool = False
    _pools: dict[str, list[_Slot]] = field(default_factory=dict)
    #: By element, the last job that used it in a layer before.
    _used: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Start with elements that nobody used."""
        self._used = [_NEVER] * self.capacity

    def begin_layer(self, **pools: SlotPool) -> None:
        """Cut the buffer anew; each pool takes its slots, or as many as those before it leave.

        Slots lie where the buffer was used least recently, and keep the last use of their elements
        in mind.
        """
        for slot in (slot for slots in self._pools.values() for slot in slots):
            for element in range(slot.base, slot.base + slot.elems):
                self._used[element] = max(self._used[element], slot.used)
        counts = self._counts(pools)
        assert all(counts.values()), "tiling chose a chunk that does not fit"
        free = self.capacity - sum(counts[name] * pool.elems for name, pool in pools.items())

        def cut(base: int) -> dict[str, list[_Slot]]:
            result: dict[str, list[_Slot]] = {}
            for name, pool in pools.items():
                bases = range(base, base + counts[name] * pool.elems, pool.elems)
                result[name] = [
                    _Slot(b, pool.elems, max(self._used[b : b + pool.elems])) for b in bases
                ]
                base = bases.stop
            return result

        def recency(cuts: dict[str, list[_Slot]]) -> int:
            return max(slot.used for slots in cuts.values() for slot in slots)

        starts = [0, free]
        if self.around and free < self.capacity:
            used = np.lib.stride_tricks.sliding_window_view(self._used, self.capacity - free)
            starts = [int(used.max(axis=1).argmin())]
        self._pools = min(map(cut, starts), key=recency)

    def fits(self, **pools: SlotPool) -> bool:
        """Tell whether `begin_layer` finds a slot for each pool."""
        return all(self._counts(pools).values())

    def _counts(self, pools: Mapping[str, SlotPool]) -> dict[str, int]:
        """Return the slots of each pool."""
        counts: dict[str, int] = {}
        free = self.capacity
        for name, pool in pools.items():
            counts[name] = min(pool.slots, free // pool.elems)
            free -= counts[name] * pool.elems
        return counts

    def place(self, key: Hashable, job: int, pool: str = "chunk") -> Placed:
        """Return where chunk `key` lies for `job`; make room for it if it lies nowhere."""
        slots = self._pools[pool]
        for slot in slots:
            if slot.key == key:
                slot.used = job
                return Placed(slot.base, False, False)
        slot = min(slots, key=lambda s: s.used)
        assert slot.used < job, "a job needs more chunks at once than there are slots"
        late = slot.used == job - 1
        slot.key, slot.used = key, job
        return Placed(slot.base, True, late)
