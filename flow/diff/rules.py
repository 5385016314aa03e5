"""Rules of ``--fail-on``: which changes are too large, such as ``sqnr<-0.5, cycles>+1%``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from flow.diff.compare import QuantityChange, ReportDiff
from flow.diff.quantities import OF_LAYERS, OF_VARIANTS, Quantity, relative
from flow.diff.read import FLOAT32
from vta_config.errors import ConfigError

OPTION: Final = "--fail-on"
PERCENT: Final = "%"
_RULE: Final = re.compile(
    r"(?P<name>\w+)\s*(?P<compare><=|>=|<|>)\s*(?P<change>[+-]?\s*\d*\.?\d+(?:[eE][+-]?\d+)?)\s*"
    r"(?P<unit>[A-Za-z%]*)"
)
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_EXAMPLE: Final = "sqnr<-0.5, cycles>+1%"
KNOWN: Final[Mapping[str, Quantity]] = {**OF_VARIANTS, **OF_LAYERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A change that makes the command fail.

    Parameters
    ----------
    text : str
        As the user wrote it.
    quantity : Quantity
        Of variants, or of layers.
    compare : str
        ``<``, ``<=``, ``>`` or ``>=``.
    change : float
        In the quantity's unit, or in percent.
    is_percent : bool
        Which of these it is.
    """

    text: str
    quantity: Quantity
    compare: str
    change: float
    is_percent: bool = False

    def is_broken_by(self, change: QuantityChange) -> bool:
        """Whether a change is one of these; a value that is lost is always one."""
        if change.new is None:
            return change.old is not None
        if change.old is None:  # nothing to compare it with
            return False
        found = change.change
        if self.is_percent and change.differs:
            part = relative(change.old, change.new)
            # From 0 it is infinitely many percent.
            found = math.copysign(math.inf, change.new) if part is None else 100 * part
        return found is not None and _COMPARE[self.compare](found, self.change)


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """A rule that a variant breaks, or one of its layers.

    Parameters
    ----------
    rule : str
        The rule, or the option where a variant is missing.
    where : str
        The variant, and the layer where it is one's.
    what : str
        A sentence.
    """

    rule: str
    where: str
    what: str

    def to_json(self) -> dict[str, str]:
        """Return it as JSON values."""
        return {"rule": self.rule, "where": self.where, "what": self.what}


def parse_rules(texts: Iterable[str]) -> tuple[Rule, ...]:
    """Read rules, separated by commas.

    Raises
    ------
    ConfigError
        When one is no rule, or of a quantity that there is not.
    """
    return tuple(_rule(part.strip()) for text in texts for part in text.split(",") if part.strip())


def _rule(text: str) -> Rule:
    found = _RULE.fullmatch(text)
    if found is None:
        raise ConfigError(
            OPTION,
            "must be rules of a quantity, <, <=, > or >=, and a change, separated by commas",
            got=text,
            hint=f"write them as '{_EXAMPLE}'",
        )
    name, unit = found["name"], found["unit"]
    if name not in KNOWN:
        raise ConfigError(
            OPTION, f"must name a quantity: {', '.join(KNOWN)}", got=name,
            hint="choose one of these",
        )  # fmt: skip
    quantity, change = KNOWN[name], float(found["change"].replace(" ", ""))
    units = [quantity.unit] if quantity.unit else []
    units += [PERCENT] if quantity.is_relative else []
    if unit and unit not in units:
        raise ConfigError(
            OPTION,
            f"must have a change of {name} in {' or '.join(units) or 'no unit'}",
            got=text,
            hint="leave the unit out"
            if not units
            else f"write it as {name}{found['compare']}{found['change']}{units[0]}",
        )
    if change and found["change"][0] not in "+-":
        raise ConfigError(
            OPTION,
            "must have a sign before the change, since it is no value",
            got=text,
            hint=f"write {name}{found['compare']}+{found['change']}{unit}, or - for a decrease",
        )
    return Rule(
        text=text,
        quantity=quantity,
        compare=found["compare"],
        change=change,
        is_percent=unit == PERCENT,
    )


def broken(rules: Iterable[Rule], diff: ReportDiff) -> tuple[Broken, ...]:
    """Return which variants and layers break rules, and which variants of the first are missing.

    Raises
    ------
    ConfigError
        When the reports do not have a rule's quantity: it would never be broken.
    """
    rules = tuple(rules)
    found: list[Broken] = []
    for rule in rules:
        changes = list(_changes(rule, diff))
        if all(change.old is None for _, change in changes):
            raise ConfigError(
                OPTION,
                f"must name quantities that {diff.old.label} has",
                got=rule.quantity.name,
                hint=f"leave out '{rule.text}'",
            )
        found += [
            Broken(rule=rule.text, where=where, what=_told(change))
            for where, change in changes
            if rule.is_broken_by(change)
        ]
    if rules:
        found += [
            Broken(rule=OPTION, where=name, what=f"{diff.new.label} does not have this variant")
            for name in diff.only_old
        ]
    return tuple(found)


def _changes(rule: Rule, diff: ReportDiff) -> Iterator[tuple[str, QuantityChange]]:
    """Yield a rule's quantity in each quantized variant, or in each of its layers."""
    name = rule.quantity.name
    for variant in diff.variants:
        if FLOAT32 in (variant.old, variant.new):
            continue
        if name in OF_VARIANTS:
            own = (c for c in variant.quantities if c.quantity.name == name)
            yield from ((variant.name, change) for change in own)
        else:
            yield from _layer_changes(diff, variant.old, variant.new, rule.quantity)


def _layer_changes(
    diff: ReportDiff, old: str, new: str, quantity: Quantity
) -> Iterator[tuple[str, QuantityChange]]:
    mine, other = diff.old.variants[old].layers, diff.new.variants[new].layers
    for layer, values in mine.items():
        if layer in other and quantity.name in values:
            change = QuantityChange(
                quantity=quantity,
                old=values[quantity.name],
                new=other[layer].get(quantity.name),
            )
            yield f"{new}, layer {layer}", change


def _told(change: QuantityChange) -> str:
    """Return a change as a sentence has it."""
    quantity = change.quantity
    told = f"{quantity.title}: {quantity.text(change.old)} → {quantity.text(change.new)}"
    text = quantity.change_text(change.old, change.new)
    return f"{told}, {text}" if text else told
