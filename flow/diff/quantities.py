"""The quantities that two reports are compared by: name, heading, unit, and which way is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

Kind: TypeAlias = Literal["share", "decibels", "count", "real"]
Values: TypeAlias = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """Something that a variant or a layer has in two reports.

    Parameters
    ----------
    name : str
        In rules and JSON.
    title : str
        In tables, with the unit.
    kind : {"share", "decibels", "count", "real"}
        Shares change by percentage points, decibels by dB, the others also by percent.
    unit : str
        What a change of it is counted in.
    better : {-1, 0, 1}
        The sign of a change for the better; 0: neither is.
    """

    name: str
    title: str
    kind: Kind
    unit: str = ""
    better: int = 0

    @property
    def is_relative(self) -> bool:
        """Whether its changes may be told in percent."""
        return self.kind in ("count", "real")

    def text(self, value: float | None) -> str:
        """Return a value for people; an infinite SQNR is "exact"."""
        if value is None:
            return "–"
        if self.kind == "share":
            return f"{100 * value:.2f}"
        if self.kind == "decibels":
            return "exact" if math.isinf(value) else f"{value:.2f}"
        return f"{value:,.0f}" if self.kind == "count" else f"{value:.4g}"

    def change_text(self, old: float | None, new: float | None) -> str:
        """Return a change for people, as in the unit of the title; of counts also in percent."""
        change = self.change(old, new)
        if change is None or math.isinf(change):
            return ""
        if self.kind in ("share", "decibels"):
            return f"{change:+.2f}"
        part = relative(old, new)
        percent = "" if part is None else f" ({100 * part:+.2f} %)"
        return (f"{change:+,.0f}" if self.kind == "count" else f"{change:+.4g}") + percent

    def change(self, old: float | None, new: float | None) -> float | None:
        """Return the change in its unit, of shares in percentage points; None where one lacks."""
        if old is None or new is None:
            return None
        if old == new:  # infinite ones, too
            return 0.0
        change = (new - old) * (100 if self.kind == "share" else 1)
        # 0.9 - 0.8 is a little less than a tenth.
        return change if math.isinf(change) else round(change, 9)


def relative(old: float | None, new: float | None) -> float | None:
    """Return new / old - 1; None where that is no number."""
    return None if old is None or new is None or not old else new / old - 1


def table(*quantities: Quantity) -> Mapping[str, Quantity]:
    """Return quantities by name."""
    return {quantity.name: quantity for quantity in quantities}


#: Of a variant, in the order of tables.
OF_VARIANTS: Final = table(
    Quantity(name="top1", title="top-1 (%)", kind="share", unit="points", better=1),
    Quantity(name="top5", title="top-5 (%)", kind="share", unit="points", better=1),
    Quantity(name="agreement", title="agreement (%)", kind="share", unit="points", better=1),
    Quantity(name="sqnr", title="SQNR (dB)", kind="decibels", unit="dB", better=1),
    Quantity(name="centred_sqnr", title="centred SQNR (dB)", kind="decibels", unit="dB", better=1),
    Quantity(name="cycles", title="latency (cycles)", kind="count", unit="cycles", better=-1),
    Quantity(name="ms", title="latency (ms)", kind="real", unit="ms", better=-1),
    Quantity(name="dram_bytes", title="DRAM traffic (bytes)", kind="count", unit="B", better=-1),
    Quantity(name="weight_bytes", title="weights (bytes)", kind="count", unit="B", better=-1),
    Quantity(name="vta_share", title="MACs on VTA (%)", kind="share", unit="points", better=1),
    Quantity(name="host_operators", title="operators on the host", kind="count", better=-1),
    Quantity(name="programs", title="programs", kind="count", better=-1),
    Quantity(
        name="crossing_bytes", title="copied to and from VTA (bytes)", kind="count", unit="B",
        better=-1,
    ),
    Quantity(name="mismatches", title="tensors that differ between engines", kind="count",
             better=-1),
    Quantity(name="requantization_error", title="requantization error", kind="real", better=-1),
    Quantity(name="images", title="images", kind="count"),
)  # fmt: skip
#: Of a layer.
OF_LAYERS: Final = table(
    Quantity(name="layer_sqnr", title="SQNR (dB)", kind="decibels", unit="dB", better=1),
    Quantity(name="layer_centred_sqnr", title="centred SQNR (dB)", kind="decibels", unit="dB",
             better=1),
    Quantity(name="layer_cycles", title="latency (cycles)", kind="count", unit="cycles", better=-1),
    Quantity(name="layer_weight_bits", title="weight bits", kind="count"),
    Quantity(name="layer_activation_bits", title="activation bits", kind="count"),
    Quantity(name="layer_weight_bytes", title="weights (bytes)", kind="count", unit="B", better=-1),
    Quantity(name="layer_macs", title="MACs", kind="count"),
    Quantity(name="layer_scale", title="scale", kind="real"),
    Quantity(name="layer_zero_point", title="zero point", kind="count"),
)  # fmt: skip
#: The keys of a layer in a report.
_LAYER_KEYS: Final[Mapping[str, str]] = {
    "layer_sqnr": "sqnr_db",
    "layer_centred_sqnr": "centred_sqnr_db",
    "layer_cycles": "cycles",
    "layer_weight_bits": "weight_bits",
    "layer_activation_bits": "activation_bits",
    "layer_weight_bytes": "weight_bytes",
    "layer_macs": "macs",
    "layer_scale": "scale",
    "layer_zero_point": "zero_point",
}


def of_variant(variant: Mapping[str, Any]) -> dict[str, float]:
    """Read the quantities of a variant of a report that it has; SQNR inf where results are equal.

    Raises
    ------
    KeyError, TypeError, ValueError
        When it is no variant of a report.
    """
    latency, placement = variant.get("latency") or {}, variant.get("placement") or {}
    is_float = variant["name"] == "float32"
    values: dict[str, Any] = {
        **{name: variant.get(name) for name in ("top1", "top5", "agreement", "images")},
        "requantization_error": variant.get("requantization_error"),
        "sqnr": None if is_float else _decibels(variant, "sqnr_db"),
        "centred_sqnr": None if is_float else _decibels(variant, "centred_sqnr_db"),
        "cycles": latency.get("cycles"),
        "ms": latency.get("ms"),
        "dram_bytes": sum(own["bytes"] for own in latency["layers"]) if latency else None,
        "vta_share": placement.get("vta_mac_share"),
        "host_operators": len(placement["fallbacks"]) if placement else None,
        "programs": placement.get("programs"),
        "crossing_bytes": placement.get("crossing_bytes"),
        "mismatches": (variant.get("exact") or {}).get("mismatches"),
    }
    if "layers" in variant and not is_float:
        values["weight_bytes"] = sum(layer["weight_bytes"] for layer in variant["layers"])
    return {name: float(value) for name, value in values.items() if value is not None}


def _decibels(variant: Mapping[str, Any], key: str) -> float | None:
    """Return an SQNR; a report has null for infinity, and lacks a key that it does not know."""
    if variant[key] is None if key in variant else key == "sqnr_db":
        # Where only means differ the centred one is null, too; it is infinite then, as well.
        return math.inf
    return None if key not in variant else float(variant[key])


def of_layers(variant: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Read the quantities of each layer, by its name; of older reports the cycles alone.

    Raises
    ------
    KeyError, TypeError, ValueError
        When it is no variant of a report.
    """
    found: dict[str, dict[str, float]] = {}
    layers = variant.get("layers") or (variant.get("latency") or {}).get("layers") or ()
    for layer in layers:
        values = {name: layer.get(key) for name, key in _LAYER_KEYS.items()}
        found[str(layer["name"])] = {k: float(v) for k, v in values.items() if v is not None}
    return found
