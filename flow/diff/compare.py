"""Compare two reports: the run, every variant, every layer, and whatever else differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from flow.diff.quantities import OF_LAYERS, OF_VARIANTS, Quantity, Values
from flow.diff.read import FLOAT32, Side, VariantNumbers
from vta_config.errors import ConfigError

#: Raised when a field changes its meaning or goes away; new fields do not raise it.
SCHEMA_VERSION: Final = 1
#: What says which run it was; the rest of a report is the result.
RUN: Final = (
    "schema_version", "tool", "model", "machine", "engine", "objective", "options", "seeds", "seed",
    "evaluation", "calibration", "deployed", "skipped", "stopped",
)  # fmt: skip
#: Differs between two identical runs, or repeats what is compared elsewhere.
_NOT_COMPARED: Final = frozenset({"date", "seconds", "command", "variants", "details"})
#: Parts of a variant that its quantities do not cover.
_OTHER_PARTS: Final = ("outputs", "steps", "bits", "kept", "calibration")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A field of two reports that differs; None: it is missing or null."""

    field: str
    old: Any
    new: Any

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"field": self.field, "a": self.old, "b": self.new}


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantityChange:
    """One quantity of a variant or layer; equal values are no change."""

    quantity: Quantity
    old: float | None
    new: float | None

    @property
    def change(self) -> float | None:
        """The change in the quantity's unit; None where one value lacks."""
        return self.quantity.change(self.old, self.new)

    @property
    def differs(self) -> bool:
        """Whether the values differ."""
        return self.old != self.new

    @property
    def is_better(self) -> bool | None:
        """Whether it is a change for the better; None: neither, or not known."""
        if not self.change or not self.quantity.better:
            return None
        return self.change * self.quantity.better > 0

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values; an infinite SQNR is the string ``exact``."""
        change = self.change
        return {
            "quantity": self.quantity.name,
            "a": _finite(self.old),
            "b": _finite(self.new),
            "change": None if change is None or abs(change) == float("inf") else change,
            "unit": self.quantity.unit,
        }


def _finite(value: float | None) -> float | int | str | None:
    if value is None or value == float("inf"):
        return None if value is None else "exact"
    return int(value) if value == int(value) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerChange:
    """What changed in one layer that both have."""

    name: str
    changes: tuple[QuantityChange, ...]

    def of(self, quantity: str) -> float:
        """Return the change of a quantity, 0.0 if there is none."""
        return next((c.change or 0.0 for c in self.changes if c.quantity.name == quantity), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantDiff:
    """What changed in one pair of variants.

    Parameters
    ----------
    old, new : str
        Their names: equal unless two variants were named.
    quantities : tuple of QuantityChange
        Every quantity that one of them has.
    layers : tuple of LayerChange
        Layers in which something differs, in execution order.
    old_layers, new_layers : tuple of str
        Layers that only one of them has.
    host : tuple of Change
        Operators that are on the host in one of them only, or for another reason; the values are
        the reasons.
    other : tuple of Change
        Further parts of the variant that differ.
    """

    old: str
    new: str
    quantities: tuple[QuantityChange, ...]
    layers: tuple[LayerChange, ...] = ()
    old_layers: tuple[str, ...] = ()
    new_layers: tuple[str, ...] = ()
    host: tuple[Change, ...] = ()
    other: tuple[Change, ...] = ()

    @property
    def name(self) -> str:
        """The variant, or both."""
        return self.old if self.old == self.new else f"{self.old} → {self.new}"

    @property
    def changed(self) -> tuple[QuantityChange, ...]:
        """The quantities that differ."""
        return tuple(change for change in self.quantities if change.differs)

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        parts = (self.layers, self.old_layers, self.new_layers, self.host, self.other)
        return not (self.changed or any(parts))

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values: only what differs."""
        return {
            "a": self.old,
            "b": self.new,
            "quantities": [change.to_json() for change in self.changed],
            "layers": [
                {"name": layer.name, "quantities": [c.to_json() for c in layer.changes]}
                for layer in self.layers
            ],
            "layers_only_in_a": list(self.old_layers),
            "layers_only_in_b": list(self.new_layers),
            "host": [change.to_json() for change in self.host],
            "other": [change.to_json() for change in self.other],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDiff:
    """What changed between two reports.

    Parameters
    ----------
    old, new : Side
        The reports.
    run : tuple of Change
        What says which run it was: versions, options, machine, images.
    variants : tuple of VariantDiff
        Variants of both, or the two that were named.
    only_old, only_new : tuple of str
        Variants of one report alone.
    other : tuple of Change
        Parts of the reports beside the variants that differ.
    """

    old: Side
    new: Side
    run: tuple[Change, ...]
    variants: tuple[VariantDiff, ...]
    only_old: tuple[str, ...] = ()
    only_new: tuple[str, ...] = ()
    other: tuple[Change, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing differs."""
        return not (self.run or self.only_old or self.only_new or self.other) and all(
            variant.is_empty for variant in self.variants
        )

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values: only what differs."""
        return {
            "schema_version": SCHEMA_VERSION,
            **{
                key: {
                    "path": str(side.path),
                    "variant": side.chosen or None,
                    "date": side.report.get("date"),
                }
                for key, side in (("a", self.old), ("b", self.new))
            },
            "identical": self.is_empty,
            "run": [change.to_json() for change in self.run],
            "variants": [v.to_json() for v in self.variants if not v.is_empty],
            "only_in_a": list(self.only_old),
            "only_in_b": list(self.only_new),
            "other": [change.to_json() for change in self.other],
        }


def compare(old: Side, new: Side) -> ReportDiff:
    """Compare two reports, or one variant of each where one is named.

    Raises
    ------
    ConfigError
        When they have no variant in common and none is named.
    """
    pairs = _pairs(old, new)
    named = bool(old.chosen or new.chosen)
    known = {key for key in RUN if _both(old, new, key)}
    only_old, only_new = (
        () if named else tuple(name for name in mine.variants if name not in other.variants)
        for mine, other in ((old, new), (new, old))
    )
    rest = () if named else tuple(
        key
        for key in old.report
        if key not in {*RUN, *_NOT_COMPARED} and _both(old, new, key)
    )  # fmt: skip
    return ReportDiff(
        old=old,
        new=new,
        run=tuple(
            change
            for key in RUN
            if key in known and not (named and key in ("deployed", "skipped", "stopped"))
            for change in differences(old.report[key], new.report[key], key)
        ),
        variants=tuple(
            _variant(old, new, old.variants[mine], new.variants[other]) for mine, other in pairs
        ),
        only_old=only_old,
        only_new=only_new,
        other=tuple(
            _summary(old.report[key], new.report[key], key)
            for key in rest
            if any(differences(old.report[key], new.report[key], key))
        ),
    )


def _both(old: Side, new: Side, key: str) -> bool:
    """Whether both reports know a field: older ones lack some."""
    return key in old.report and key in new.report


def _pairs(old: Side, new: Side) -> list[tuple[str, str]]:
    """Return which variants are compared."""
    if old.chosen or new.chosen:
        mine, other = old.chosen or new.chosen, new.chosen or old.chosen
        for side, name in ((old, mine), (new, other)):
            if name not in side.variants:
                raise ConfigError(
                    side.label,
                    f"must have the variant {name}",
                    got=", ".join(side.variants),
                    hint=f"name one of these, as {side.path.parent}:{[*side.variants][-1]}",
                )
        return [(mine, other)]
    common = [name for name in old.variants if name in new.variants]
    if not set(common) - {FLOAT32}:
        raise ConfigError(
            f"{old.label}, {new.label}",
            "must have a quantized variant in common",
            got=f"{', '.join(old.variants)} and {', '.join(new.variants)}",
            hint="name a variant of each: "
            f"{old.label}:{[*old.variants][-1]} {new.label}:{[*new.variants][-1]}",
        )
    return [(name, name) for name in common]


def _variant(old: Side, new: Side, mine: VariantNumbers, other: VariantNumbers) -> VariantDiff:
    """Compare two variants."""
    both = [name for name in mine.layers if name in other.layers]
    layers = [
        LayerChange(
            name=name,
            changes=tuple(
                c for c in _quantities(OF_LAYERS, mine.layers[name], other.layers[name])
                if c.differs and _known(old, new, c)
            ),
        )
        for name in both
    ]  # fmt: skip
    parts = list(differences(mine.partial, other.partial, "latency.partial"))
    if mine.name == other.name:
        a, b = (_of(side, mine.name) for side in (old, new))
        parts += [
            _summary(a[key], b[key], key)
            for key in _OTHER_PARTS
            if key in a and key in b and any(differences(a[key], b[key], key))
        ]
    quantities = _quantities(OF_VARIANTS, mine.values, other.values)
    return VariantDiff(
        old=mine.name,
        new=other.name,
        quantities=tuple(c for c in quantities if _known(old, new, c)),
        layers=tuple(layer for layer in layers if layer.changes),
        old_layers=tuple(name for name in mine.layers if name not in other.layers),
        new_layers=tuple(name for name in other.layers if name not in mine.layers),
        host=tuple(
            Change(field=name, old=mine.host.get(name), new=other.host.get(name))
            for name in dict.fromkeys((*mine.host, *other.host))
            if mine.host.get(name) != other.host.get(name)
        ),
        other=tuple(parts),
    )


def _of(side: Side, name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(v for v in side.report["variants"] if v["name"] == name)
    return found


def _known(old: Side, new: Side, change: QuantityChange) -> bool:
    """Whether both reports could have a quantity: those of version 3 have fewer."""
    same = old.report["schema_version"] == new.report["schema_version"]
    return same or (change.old is not None and change.new is not None)


def _quantities(
    table: Mapping[str, Quantity], old: Values, new: Values
) -> tuple[QuantityChange, ...]:
    return tuple(
        QuantityChange(quantity=quantity, old=old.get(name), new=new.get(name))
        for name, quantity in table.items()
        if name in old or name in new
    )


def differences(old: Any, new: Any, where: str) -> Iterator[Change]:
    """Yield every value in which two JSON values differ, by its path: ``options.bits.limits``.

    Lists of different lengths, and values of different types, are one difference.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys((*old, *new)):
            yield from differences(old.get(key), new.get(key), f"{where}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for index, (mine, other) in enumerate(zip(old, new, strict=True)):
            yield from differences(mine, other, f"{where}[{index}]")
    elif old != new or type(old) is not type(new):
        if old != new or bool in (type(old), type(new)):  # 1 and 1.0 are one number
            yield Change(field=where, old=old, new=new)


def _summary(old: Any, new: Any, where: str) -> Change:
    """Return the first of the values in which two parts differ, and how many there are."""
    first, *more = differences(old, new, where)
    field = f"{first.field} and {len(more):,} more in {where}" if more else first.field
    return Change(field=field, old=first.old, new=first.new)
