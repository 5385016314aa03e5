"""Constraints on machines, such as ``sram <= 512KiB and block >= 16``: a small language.

Numbers with units, the names of quantities, ``+ - * /``, comparisons, ``and``, ``or``, ``not`` and
parentheses. A text is read into a tree once; nothing of it is ever run as Python.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from flow.machines.axes import AXES
from flow.machines.units import AREAS, ENERGIES, FREQUENCIES, SIZES, TIMES
from vta_config.errors import ConfigError
from vta_config.hardware import TIMINGS

Value: TypeAlias = float | str | bool
Lookup: TypeAlias = Callable[[str], float | str]
#: What is compared: a text, a plain number, or a number of a kind.
_TEXT, _PLAIN, _TRUTH = "name", "number", "condition"
_UNITS: Final[Mapping[str, tuple[str, float]]] = {
    **{unit: ("size", factor) for unit, factor in SIZES.items()},
    **{unit: ("frequency", factor) for unit, factor in FREQUENCIES.items()},
    **{unit: ("time", factor) for unit, factor in TIMES.items()},
    **{unit: ("area", factor) for unit, factor in AREAS.items()},
    **{unit: ("energy", factor) for unit, factor in ENERGIES.items()},
    "%": ("share", 0.01),
}
#: Kinds whose numbers need a unit, since nobody means seconds by `latency < 30`, and an example.
_UNIT_NEEDED: Final[Mapping[str, str]] = {
    "frequency": "100MHz",
    "time": "30ms",
    "energy": "5mJ",
    "share": "70%",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What a constraint may name.

    Parameters
    ----------
    kind : str
        Its unit's kind; numbers of two kinds are not compared.
    about : str
        A few words for help.
    measured : bool
        Whether it is known only after the network was compiled and timed.
    """

    kind: str
    about: str
    measured: bool = False


#: Axes first.
QUANTITIES: Final[Mapping[str, Quantity]] = {
    **{
        name: Quantity(
            kind=_TEXT
            if name == "profile"
            else "size"
            if axis.units is SIZES
            else "frequency"
            if axis.units is FREQUENCIES
            else _PLAIN,
            about=axis.about,
        )
        for name, axis in AXES.items()
    },
    "config": Quantity(kind=_TEXT, about="the machine that is varied"),
    "sram": Quantity(kind="size", about="bytes of all scratchpads"),
    "multipliers": Quantity(kind=_PLAIN, about="batch · block²"),
    "bandwidth": Quantity(kind=_PLAIN, about="bytes per second of the bus"),
    "area": Quantity(kind="area", about="mm² by the model"),
    "cycles": Quantity(kind=_PLAIN, about="of one image", measured=True),
    "latency": Quantity(kind="time", about="of one image", measured=True),
    "energy": Quantity(kind="energy", about="of one image by the model", measured=True),
    "dram": Quantity(kind="size", about="bytes moved for one image", measured=True),
    "accuracy": Quantity(kind="share", about="top-1, or agreement with float32", measured=True),
    "sqnr": Quantity(kind=_PLAIN, about="centred SQNR in dB", measured=True),
}
#: Characters of a constraint, and how deep its parentheses are.
MOST_CHARS: Final = 1000
MOST_DEPTH: Final = 50
_TOKEN: Final = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?P<unit>[A-Za-z]\w*|%)?"
    r"|(?P<name>[A-Za-z]\w*(?:-[A-Za-z]\w*)*)|(?P<sign><=|>=|==|!=|[-+*/()<>=]))"
)
_COMPARISONS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
}


def _quotient(x: float, y: float) -> float:
    return x / y if y else math.inf


_ARITHMETIC: Final[Mapping[str, Callable[[Any, Any], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": _quotient,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A constraint that was read.

    Parameters
    ----------
    text : str
        As the user wrote it.
    names : frozenset of str
        The quantities in it.
    test : callable
        Takes what returns a quantity by its name, and tells whether the constraint holds.
    """

    text: str
    names: frozenset[str]
    test: Callable[[Lookup], bool] = field(compare=False)

    @property
    def measured(self) -> bool:
        """Whether it can be tested only after the network was compiled and timed."""
        return any(QUANTITIES[name].measured for name in self.names)


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a constraint: the kind of its value, and how that is found."""

    kind: str
    value: Callable[[Lookup], Value]


def parse(text: str, words: frozenset[str] = frozenset()) -> Condition:
    """Read a constraint.

    Parameters
    ----------
    text : str
    words : frozenset of str
        Names that texts are compared with, beside timing profiles.

    Raises
    ------
    ConfigError
        When it is none; the sentence shows where.
    """
    parser = _Parser(text, words | frozenset(TIMINGS))
    part = parser.whole()
    return Condition(
        text=" ".join(text.split()),
        names=frozenset(parser.names),
        test=lambda lookup: bool(part.value(lookup)),
    )


class _Parser:
    """Reads one constraint, from its first token on."""

    def __init__(self, text: str, words: frozenset[str]) -> None:
        self._text, self._words = text, words
        self.names: set[str] = set()
        if len(text) > MOST_CHARS:
            raise ConfigError(
                "--where",
                f"must have at most {MOST_CHARS} characters",
                got=len(text),
                hint="give several constraints",
            )
        self._tokens: list[re.Match[str]] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise self._error("a quantity, a number or a sign", text[at:].strip())
            self._tokens.append(match)
            at = match.end()
        self._at = self._depth = 0

    def whole(self) -> _Part:
        part = self._either()
        if self._at < len(self._tokens):
            raise self._error("and, or, or the end", self._tokens[self._at][0].strip())
        if part.kind != _TRUTH:
            raise self._error("a comparison", self._text.strip())
        return part

    def _error(self, expected: str, got: str) -> ConfigError:
        return ConfigError(
            f"--where {self._text!r}",
            f"must have {expected}",
            got=repr(got) if got else "nothing",
            hint="write it as in 'sram <= 512KiB and block >= 16'",
        )

    def _next(self) -> re.Match[str] | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _take(self, *texts: str) -> str:
        """Take the next token if it is one of `texts`; return it, "" otherwise."""
        token = self._next()
        if token is None or token[0].strip() not in texts:
            return ""
        self._at += 1
        return token[0].strip()

    def _either(self) -> _Part:
        part = self._both()
        while self._take("or"):
            part = self._joined(part, self._both(), any)
        return part

    def _both(self) -> _Part:
        part = self._opposite()
        while self._take("and"):
            part = self._joined(part, self._opposite(), all)
        return part

    def _joined(self, a: _Part, b: _Part, how: Callable[[list[bool]], bool]) -> _Part:
        for part in (a, b):
            if part.kind != _TRUTH:
                raise self._error("comparisons around and, or, not", f"a {part.kind}")
        return _Part(_TRUTH, lambda of: how([bool(a.value(of)), bool(b.value(of))]))

    def _opposite(self) -> _Part:
        if not self._take("not"):
            return self._comparison()
        self._deeper()
        part = self._opposite()
        self._depth -= 1
        self._joined(part, part, all)
        return _Part(_TRUTH, lambda of: not part.value(of))

    def _comparison(self) -> _Part:
        a = self._sum()
        sign = self._take(*_COMPARISONS)
        if not sign:
            return a
        b = self._sum()
        kinds = {a.kind, b.kind}
        if _TRUTH in kinds or len(kinds - {_PLAIN}) > 1 or (_TEXT in kinds and len(kinds) > 1):
            raise self._error("two sides of one kind", f"a {a.kind} {sign} a {b.kind}")
        for kind in kinds & set(_UNIT_NEEDED):
            if len(kinds) > 1:  # beside a number
                raise self._error(f"a unit on both sides, such as {_UNIT_NEEDED[kind]}", "none")
        if _TEXT in kinds and sign not in ("=", "==", "!="):
            raise self._error("= or != between names", sign)
        compare = _COMPARISONS[sign]
        return _Part(_TRUTH, lambda of: compare(a.value(of), b.value(of)))

    def _sum(self) -> _Part:
        part = self._product()
        while sign := self._take("+", "-"):
            part = self._computed(part, sign, self._product())
        return part

    def _product(self) -> _Part:
        part = self._atom()
        while sign := self._take("*", "/"):
            part = self._computed(part, sign, self._atom())
        return part

    def _computed(self, a: _Part, sign: str, b: _Part) -> _Part:
        kinds = {a.kind, b.kind}
        if kinds & {_TEXT, _TRUTH} or (sign in "+-" and len(kinds - {_PLAIN}) > 1):
            raise self._error("numbers of one kind", f"a {a.kind} {sign} a {b.kind}")
        if sign in "+-":
            kind = a.kind if b.kind == _PLAIN else b.kind
        elif sign == "*":
            kind = _PLAIN if _PLAIN not in kinds else b.kind if a.kind == _PLAIN else a.kind
        else:
            kind = a.kind if b.kind == _PLAIN else _PLAIN
        compute = _ARITHMETIC[sign]
        return _Part(kind, lambda of: compute(a.value(of), b.value(of)))

    def _atom(self) -> _Part:
        if self._take("("):
            self._deeper()
            part = self._either()
            self._depth -= 1
            if not self._take(")"):
                token = self._next()
                raise self._error("a closing parenthesis", token[0].strip() if token else "")
            return part
        token = self._next()
        if token is None or not (token["number"] or token["name"]):
            raise self._error("a quantity or a number", token[0].strip() if token else "")
        self._at += 1
        return self._number(token) if token["number"] else self._named(token["name"])

    def _number(self, token: re.Match[str]) -> _Part:
        number, unit = float(token["number"]), token["unit"]
        if unit is None:
            return _Part(_PLAIN, lambda of: number)
        if unit not in _UNITS:
            raise self._error(f"a unit of {', '.join(_UNITS)}", unit)
        kind, factor = _UNITS[unit]
        return _Part(kind, lambda of: number * factor)

    def _named(self, name: str) -> _Part:
        if name in QUANTITIES:
            self.names.add(name)
            return _Part(QUANTITIES[name].kind, lambda of: of(name))
        if name in self._words:
            return _Part(_TEXT, lambda of: name)
        raise ConfigError(
            f"--where {self._text!r}",
            "must name quantities of a machine",
            got=name,
            hint=f"known: {', '.join(QUANTITIES)}",
        )

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MOST_DEPTH:
            raise self._error(f"at most {MOST_DEPTH} parentheses in each other", "more")
