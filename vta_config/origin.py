"""Where an instruction comes from: fields for programs, a text for people."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from vta_config.text import shown_name


class Purpose(str, Enum):
    """What the compiler makes an instruction for; its value is the word that people read."""

    INPUT = "input"
    WEIGHTS = "weights"
    RESET = "reset"
    #: A product of a layer's inputs with its weights, which no other GEMM is.
    GEMM = "gemm"
    BIAS = "bias"
    RESIDUAL = "residual"
    POOL = "pool"
    COPY = "copy"
    #: A left shift of sums between planes of operands that are narrower than the numbers.
    SHIFT = "shift"
    REQUANTIZE = "requantize"
    STORE = "store"
    UOPS = "uops"
    #: A no-op that waits for the instruction whose layer and tile it names.
    WAIT = "wait"
    #: For all layers: the vector that biases are multiplied with, a diagonal weight.
    VECTOR = "constant vector"
    DIAGONAL = "diagonal weight"
    FINISH = "finish"

    def __str__(self) -> str:
        """Return the word."""
        return str(self.value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The layer, the tile of its output and the purpose that an instruction works for.

    Parameters
    ----------
    layer : str or None
        The layer's name, any text; None for what works for no layer.
    tile : tuple[int, int, int] or None
        The tile's first block of output channels, row and column; None for no tile.
    purpose : str
        A `Purpose`, or words of whoever wrote the instruction (``"line 12"``); "" for none.
    """

    layer: str | None = None
    tile: tuple[int, int, int] | None = None
    purpose: str = ""

    def to(self, purpose: str) -> Origin:
        """Return the same layer and tile with another purpose."""
        return replace(self, purpose=purpose)

    def __str__(self) -> str:
        """Return a line for people, e.g. ``layer2.0.conv1 tile (0, 3, 0) bias``; nothing reads it.

        A long name is cut, and what a terminal would obey is escaped.
        """
        words = [] if self.layer is None else [shown_name(self.layer)]
        if self.tile is not None:
            words.append(f"tile {self.tile}")
        if self.purpose:
            words.append(shown_name(self.purpose))
        return " ".join(words)


#: Of instructions that nobody said anything about.
NOWHERE: Final = Origin()
