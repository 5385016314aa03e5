"""Scratchpad slots: which chunk lies where in inp, wgt and acc while jobs are laid out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable

_NEVER = -10


class Placed(NamedTuple):
    """Where a chunk lies; whether it must be loaded, and if so only after the job before."""

    base: int
    fresh: bool
    late: bool


@dataclass(slots=True)
class SlotBuffer:
    """Cut a scratchpad into equal slots, one a chunk, and remember what lies in them.

    Loads of a job are issued before the job ahead of it computes, so a slot that this one still
    uses may be refilled only afterwards (`Placed.late`); with two slots or more that does not
    happen.
    """

    capacity: int
    _slot_elems: int = 1
    _keys: list[Hashable] = field(default_factory=list)
    _used: list[int] = field(default_factory=list)
    _next: int = 0

    def begin_layer(self, chunk_elems: int) -> None:
        """Cut the buffer into slots of `chunk_elems`; what the last layer uses stays busy."""
        old = [
            (i * self._slot_elems, (i + 1) * self._slot_elems, job)
            for i, job in enumerate(self._used)
        ]
        latest = max(old, key=lambda slot: slot[2], default=(0, 0, _NEVER))
        count = self.capacity // chunk_elems
        assert count >= 1, "tiling chose a chunk that does not fit"
        self._slot_elems = chunk_elems
        self._keys = [None] * count
        self._used = [
            max(
                (
                    job
                    for low, high, job in old
                    if low < (i + 1) * chunk_elems and i * chunk_elems < high
                ),
                default=_NEVER,
            )
            for i in range(count)
        ]
        self._next = -(-latest[1] // chunk_elems) % count if latest[1] <= count * chunk_elems else 0

    def place(self, key: Hashable, job: int) -> Placed:
        """Return where chunk `key` lies for `job`; make room for it if it lies nowhere."""
        if key in self._keys:
            slot = self._keys.index(key)
            self._used[slot] = job
            return Placed(slot * self._slot_elems, False, False)
        count = len(self._keys)
        order = [(self._next + i) % count for i in range(count)]
        slot = next((s for s in order if self._used[s] < job - 1), -1)
        late = slot < 0
        if late:
            slot = next(s for s in order if self._used[s] < job)
        self._keys[slot], self._used[slot] = key, job
        self._next = (slot + 1) % count
        return Placed(slot * self._slot_elems, True, late)
