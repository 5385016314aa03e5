"""What a program may cost: files come from anywhere, and a few bytes can ask for hours.

A cost is known from the instructions before anything is run: steps and bytes of memory, counted as
``flow/sim/core/limits.h`` says. Programs that this process has compiled itself are not limited.
"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import dataclass
from typing import Final

#: The file itself may take this share of the memory: it is kept beside what is made of it.
FILE_SHARE: Final = 2
#: Memory that an instruction takes, as decoded and timed (kBytesPerInsn of limits.cc).
INSN_COST_BYTES: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that a program may take; -1 for no limit.

    Parameters
    ----------
    max_steps : int
        Steps of loop nests (each counts more on machines of more than 256 multiplications a step),
        and elements of LOAD and STORE.
    max_bytes : int
        Memory of the program's DRAM, scratchpads, instructions, loop nests and checks. The file may
        have half of it.
    """

    max_steps: int = 1 << 28
    max_bytes: int = 1 << 29

    def allows(self, *, steps: int = 0, memory_bytes: int = 0) -> bool:
        """Tell whether a cost is within the limits."""
        return (self.max_steps < 0 or steps <= self.max_steps) and (
            self.max_bytes < 0 or memory_bytes <= self.max_bytes
        )


#: For files of unknown origin.
DEFAULT: Final = Limits()
#: For programs that this process has made.
UNLIMITED: Final = Limits(max_steps=-1, max_bytes=-1)
#: The numpy oracle takes about a microsecond a step.
ORACLE: Final = Limits(max_steps=1 << 23)


def add_options(parser: ArgumentParser, *, steps: bool = True, about: str = "") -> None:
    """Add ``--max-bytes``, and ``--max-steps``, to a command that reads, or runs, programs."""
    group = parser.add_argument_group(f"limits {about}".strip())
    if steps:
        group.add_argument(
            "--max-steps",
            type=_natural,
            default=DEFAULT.max_steps,
            metavar="N",
            help="refuse programs with more steps (default: %(default)s)",
        )
    group.add_argument(
        "--max-bytes",
        type=_natural,
        default=DEFAULT.max_bytes,
        metavar="N",
        help="refuse programs that need more memory (default: %(default)s)",
    )


def of_options(options: Namespace) -> Limits:
    """Return the limits that `add_options` has parsed."""
    steps = getattr(options, "max_steps", DEFAULT.max_steps)
    return Limits(max_steps=steps, max_bytes=options.max_bytes)


def _natural(text: str) -> int:
    # int() of endless digits takes quadratic time, and the core counts in 63 bits.
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ArgumentTypeError(f"must be an integer of at most 18 digits, got {text[:32]}")
    return int(text)
