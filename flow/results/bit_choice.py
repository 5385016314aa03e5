"""Which bits each layer got, and why: what reports say of the variant `mixed`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.table import Table
from rich.text import Text

from relay_passes.selection.bit_program import Bits, number, shown
from vta_config.text import shown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerBits:
    """What a layer got.

    Parameters
    ----------
    name : str
    bits : (weight bits, activation bits)
    fixed : bool
        Whether it had no choice.
    weights, macs : int
        How many.
    cycles : mapping of bits to int
        What it takes at each width that was measured.
    omega : mapping of str to mapping of bits to float
        The perturbation at each width, by the sensitivity that says so.
    """

    name: str
    bits: Bits
    fixed: bool
    weights: int
    macs: int
    cycles: Mapping[Bits, int] = field(default_factory=dict)
    omega: Mapping[str, Mapping[Bits, float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "name": self.name,
            "weight_bits": self.bits[0],
            "activation_bits": self.bits[1],
            "fixed": self.fixed,
            "weights": self.weights,
            "macs": self.macs,
            "cycles": {shown(bits): cycles for bits, cycles in self.cycles.items()},
            "omega": {
                source: {shown(bits): value for bits, value in by_bits.items()}
                for source, by_bits in self.omega.items()
            },
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class BitChoice:
    """What the integer program chose.

    Parameters
    ----------
    layers : tuple of LayerBits
        In order.
    sensitivity : str
        What it went by: a key of the layers' `omega`.
    perturbation : float
        Σ Ω of what was chosen.
    limits : mapping of str to float
        Cycles, bytes or bit operations, by cost.
    ranges : mapping of str to (float, float)
        The least sum of each cost, and that of the widest choices.
    costs : mapping of str to float
        The sums of what was chosen; of latency the cycles that were predicted.
    measured_cycles : int, optional
        Of the program; None where there is none, or it is not made yet.
    rounds : int
        How often it was solved: again where a program took other cycles than its layers' sum.
    remarks : tuple of str
        Sentences for people.
    agreement : float, optional
        Rank correlation of the two sensitivities, where both are there.
    """

    layers: tuple[LayerBits, ...]
    sensitivity: str
    perturbation: float
    limits: Mapping[str, float]
    ranges: Mapping[str, tuple[float, float]]
    costs: Mapping[str, float]
    measured_cycles: int | None = None
    rounds: int = 1
    remarks: tuple[str, ...] = ()
    agreement: float | None = None

    @property
    def bits(self) -> dict[str, Bits]:
        """The bits by layer."""
        return {layer.name: layer.bits for layer in self.layers}

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "sensitivity": self.sensitivity,
            "sensitivities_agree": self.agreement,
            "perturbation": self.perturbation,
            "limits": dict(self.limits),
            "ranges": {name: list(ends) for name, ends in self.ranges.items()},
            "costs": dict(self.costs),
            "predicted_cycles": round(self.costs["latency"]) if "latency" in self.costs else None,
            "measured_cycles": self.measured_cycles,
            "rounds": self.rounds,
            "remarks": list(self.remarks),
            "layers": [layer.to_json() for layer in self.layers],
        }


def bit_lines(choice: BitChoice) -> list[str]:
    """Tell in a few lines what was chosen."""
    counts: dict[Bits, int] = {}
    for layer in choice.layers:
        counts[layer.bits] = counts.get(layer.bits, 0) + 1
    chosen = ", ".join(f"{n} layers {shown(bits)}" for bits, n in sorted(counts.items()))
    limits = " and ".join(f"{n} {number(v)}" for n, v in choice.limits.items()) or "no limit"
    lines = [f"{chosen}; {limits}; Ω {choice.perturbation:.4g} ({choice.sensitivity})"]
    sums = [f"{choice.costs['size'] / 1e6:.3f} MB of weights"]
    sums.append(f"{choice.costs['bops'] / 1e9:.4g} G bit operations")
    if choice.measured_cycles is not None:
        predicted = round(choice.costs["latency"])
        off = choice.measured_cycles / predicted - 1 if predicted else 0.0
        sums.append(
            f"{predicted:,} cycles predicted, {choice.measured_cycles:,} measured ({off:+.2%})"
        )
    return [*lines, ", ".join(sums), *choice.remarks]


def choice_lines(variants: Iterable[tuple[str, BitChoice | None]]) -> list[str]:
    """Return the lines of a report about the variants whose bits were chosen per layer."""
    told = [(name, bit_lines(choice)) for name, choice in variants if choice is not None]
    lines = [f"{name}: {line}" for name, found in told for line in found]
    return [("choice     " if i == 0 else " " * 11) + line for i, line in enumerate(lines)]


def bits_table(choice: BitChoice) -> Table:
    """Lay out what each layer got, and its perturbations."""
    table = Table(header_style="bold", padding=0)
    table.add_column("layer", no_wrap=True)
    table.add_column("bits")
    for heading in ("weights", "M MACs", "cycles"):
        table.add_column(heading, justify="right")
    columns = [
        (source, bits)
        for source in dict.fromkeys(s for layer in choice.layers for s in layer.omega)
        for bits in dict.fromkeys(b for x in choice.layers for b in x.omega.get(source, {}))
    ]
    for source, bits in columns:
        table.add_column(f"Ω {source} {shown(bits)}", justify="right")
    for layer in choice.layers:
        cycles = layer.cycles.get(layer.bits)
        values = (layer.omega.get(source, {}).get(bits) for source, bits in columns)
        table.add_row(
            Text(shown_name(layer.name)),
            shown(layer.bits) + (" fixed" if layer.fixed else ""),
            f"{layer.weights:,}",
            f"{layer.macs / 1e6:,.2f}",
            "–" if cycles is None else f"{cycles:,}",
            *("–" if value is None else f"{value:.3g}" for value in values),
        )
    return table
