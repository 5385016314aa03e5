"""What the user asks of the variant `mixed`: limits, and bits that are given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias, get_args

from relay_passes.selection.bit_program import Bits, listed, number, shown
from vta_config.errors import LimitError

Sensitivity: TypeAlias = Literal["measured", "hessian"]
SENSITIVITIES: Final[tuple[Sensitivity, ...]] = get_args(Sensitivity)
Cost: TypeAlias = Literal["latency", "size", "bops"]

#: Units of limits, in those of the costs: cycles or seconds, bytes, bit operations.
UNITS: Final[Mapping[Cost, Mapping[str, float]]] = {
    "latency": {
        "cycles": 1, "kcycles": 1e3, "Mcycles": 1e6, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1,
    },
    "size": {
        "B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9,
        "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
    },
    "bops": {"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12},
}  # fmt: skip
_SECONDS: Final = frozenset({"us", "µs", "ms", "s"})
_EXAMPLES: Final[Mapping[Cost, str]] = {
    "latency": "0.5, 15ms or 8.1Mcycles",
    "size": "0.5, 6MB or 500KiB",
    "bops": "0.5, 3e10 or 30G",
}
_NUMBER: Final = re.compile(r"([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?) ?([A-Za-zµ]*)")
_BITS: Final = re.compile(r"(\d{1,2}),(\d{1,2})")
#: What weights and activations may have.
LEAST_BITS, MOST_BITS = 2, 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A limit as the user gives it.

    Parameters
    ----------
    cost : {"latency", "size", "bops"}
    value : float
        Cycles, seconds, bytes or bit operations; of a share in [0, 1].
    unit : {"share", "cycles", "seconds", "bytes", "operations"}
    """

    cost: Cost
    value: float
    unit: Literal["share", "cycles", "seconds", "bytes", "operations"] = "share"

    @classmethod
    def parse(cls, cost: Cost, text: str) -> Bound:
        """Read a limit: a share without unit, an absolute number with one.

        Bit operations have none, so that a number above 1 is meant to be absolute.

        Raises
        ------
        LimitError
            When it is neither.
        """
        units = UNITS[cost]
        found = _NUMBER.fullmatch(text.strip())
        value, unit = (float(found[1]), found[2]) if found else (-1.0, "")
        if found and not unit and value <= 1:
            return cls(cost=cost, value=value)
        absolute = value * units[unit] if unit in units else -1.0
        if not found or not 0 < absolute < 1e300:
            raise LimitError(
                f"--max-{cost}",
                f"must be a share in [0, 1], or a number above 0 with one of the units "
                f"{listed(u for u in units if u)}",
                got=text,
                hint=f"give a limit such as {_EXAMPLES[cost]}",
            )
        if cost == "latency":
            seconds = unit in _SECONDS
            return cls(cost=cost, value=absolute, unit="seconds" if seconds else "cycles")
        return cls(cost=cost, value=absolute, unit="bytes" if cost == "size" else "operations")

    def __str__(self) -> str:
        """Return it as people write it."""
        if self.unit == "share":
            return f"{self.value:g} of the range"
        return f"{number(self.value)} {self.unit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BitRequest:
    """What the user asks of the variant `mixed`.

    Parameters
    ----------
    limits : tuple of Bound
        One a cost at most. Without any, half of the range of what the machine gains by: latency
        where it has operands of 4 bits, size elsewhere.
    fixed : mapping of str to (weight bits, activation bits)
        By layer. The first and the last layer have 8 bits unless they are named here.
    widths : tuple of (weight bits, activation bits)
        What the other layers may have; by default what the machine has operands for.
    sensitivity : {"measured", "hessian"}
        What the choice goes by.
    """

    limits: tuple[Bound, ...] = ()
    fixed: Mapping[str, Bits] = field(default_factory=dict)
    widths: tuple[Bits, ...] = ()
    sensitivity: Sensitivity = "measured"


def parse_bits(option: str, text: str) -> Bits:
    """Read ``W,A``: bits of weights and of activations.

    Raises
    ------
    LimitError
        When they are none that a machine has.
    """
    found = _BITS.fullmatch(text.strip())
    bits = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(LEAST_BITS <= b <= MOST_BITS for b in bits):
        raise LimitError(
            option,
            f"must be bits of weights and activations that machines have, {LEAST_BITS} to "
            f"{MOST_BITS}",
            got=text,
            hint="give them as W,A, such as 4,8",
        )
    return bits


def parse_fixed(texts: list[str]) -> dict[str, Bits]:
    """Read ``LAYER=W,A``, any number of them.

    Raises
    ------
    LimitError
        When one is no layer with bits, or a layer gets different bits.
    """
    fixed: dict[str, Bits] = {}
    for text in texts:
        name, equals, bits = text.rpartition("=")
        if not equals or not name:
            raise LimitError(
                "--fix-bits", "must be LAYER=W,A", got=text, hint="give it as conv1=8,8"
            )
        pair = parse_bits("--fix-bits", bits)
        if fixed.setdefault(name, pair) != pair:
            raise LimitError(
                "--fix-bits",
                f"must give {name} bits once",
                got=f"{shown(fixed[name])} and {shown(pair)}",
                hint="leave one out",
            )
    return fixed
