"""Multiplication of the accumulator by shifts and additions, for machines without MUL.

⌊a · b / 2^c⌋ follows from the ones of b, least significant first, by Horner's rule with right
shifts: y = a stands for the lowest one, and for each further one, k places above the one before,

    y = (y >> k) + a,        since ⌊(⌊x⌋ + 2^k · a) / 2^k⌋ = ⌊x / 2^k⌋ + a,

so that no rounding is added, and nothing exceeds |a · b|. For ones of b above bit c, which no shift
reaches, the copy of a is doubled instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from vta_config.portable import MAX_SHIFT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vta_config.timing import TimingProfile
#: The part of acc that is kept for copies: a small one costs instructions, a large one tiles.
COPY_SHARE: Final = 16
Move: TypeAlias = Literal["shr", "double", "copy", "add", "double_copy"]
#: Instructions: a copy is a reset and an addition. One on two registers counts twice.
_PASSES: Final[dict[Move, int]] = {"shr": 1, "double": 2, "copy": 3, "add": 2, "double_copy": 2}


class Action(NamedTuple):
    """One move on y, which starts as a, and the copy of a; the amount of ``shr``, else 0.

    ``shr``: y >>= amount; ``double``: y += y; ``copy``: copy = y; ``add``: y += copy;
    ``double_copy``: copy += copy.
    """

    move: Move
    amount: int = 0


@lru_cache(maxsize=4096)
def shift_adds(multiplier: int, shift: int) -> tuple[Action, ...]:
    """Return the actions that turn a into ⌊a · multiplier / 2^shift⌋.

    Parameters
    ----------
    multiplier : int
        b >= 1.
    shift : int
        c >= 0.
    """
    assert multiplier >= 1 and shift >= 0, (multiplier, shift)
    ones = [bit for bit in range(multiplier.bit_length()) if multiplier >> bit & 1]
    doubled = max(0, ones[0] - shift)
    ones = [one - doubled for one in ones]
    actions = [Action("double")] * doubled + [Action("copy")] * (len(ones) > 1)
    at, top = ones[0], shift  # y stands for bits shifted by `at`, the copy for a · 2^(top - shift)
    for one in ones[1:]:
        actions += _right(min(one, shift) - at)
        at = min(one, shift)
        actions += [Action("double_copy")] * max(0, one - top) + [Action("add")]
        top = max(one, top)
    return (*actions, *_right(shift - at))


def _right(amount: int) -> list[Action]:
    whole, rest = divmod(amount, MAX_SHIFT)
    return [Action("shr", MAX_SHIFT)] * whole + [Action("shr", rest)] * bool(rest)


@dataclass(frozen=True, slots=True, kw_only=True)
class ShiftAdds:
    """acc = ⌊acc · b / 2^c⌋ for a machine without MUL, b and c one a block of channels.

    Parameters
    ----------
    actions : tuple[tuple[Action, ...], ...]
        For each block of output channels.
    """

    actions: tuple[tuple[Action, ...], ...]

    @classmethod
    def of(cls, multiplier: tuple[int, ...], shift: tuple[int, ...]) -> ShiftAdds:
        """Plan each block's multiplication by b / 2^c."""
        return cls(actions=tuple(map(shift_adds, multiplier, shift)))

    @property
    def passes(self) -> int:
        """Instructions, those on two registers counted twice, on average over the blocks."""
        return self._average(_PASSES)

    def cycles(self, timing: TimingProfile) -> int:
        """Return cycles a vector, on average over the blocks."""
        register = timing.alu_reg_step
        cycles: dict[Move, int] = dict.fromkeys(_PASSES, register)
        cycles |= {"shr": timing.alu_imm_step, "copy": timing.gemm_reset_step + register}
        return self._average(cycles)

    def _average(self, each: Mapping[Move, int]) -> int:
        total = sum(each[action.move] for block in self.actions for action in block)
        return -(-total // len(self.actions))

    @property
    def copies(self) -> bool:
        """Whether acc elements for a copy are needed."""
        return any(Action("copy") in block for block in self.actions)
