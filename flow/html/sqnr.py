"""The SQNR of each layer's output: which layers lose it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from flow.html import svg, texts
from flow.html.parts import Column, Lines, Part, Table
from flow.html.values import Missing, Values
from vta_config.text import shown_name

#: What stands for a tensor that is equal to float32's, and above.
_EQUAL_DB: Final = 300.0
_NAME_CHARS: Final = 40
#: Layers that the sentence above the table names.
_NAMED: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layer:
    """A layer, its SQNR, and the least SQNR of what it reads."""

    number: int
    values: Values
    db: float
    read: float | None

    @property
    def lost(self) -> float | None:
        """What it loses against its worst input, in dB."""
        return None if self.read is None else self.read - self.db


def parts(report: Values) -> list[Part]:
    """Return the layers, the worst first.

    Raises
    ------
    Missing
        When nothing was compared.
    """
    deployed = report.text("deployed")
    own = next((v for v in report.parts("variants") if v.text("name") == deployed), None)
    if own is None:
        raise Missing(f"variants: {deployed}")
    layers = own.parts("layers")
    reads = _reads(report, layers)
    by_tensor = {
        x.text("tensor"): db for x in layers if (db := x.maybe_number("sqnr_db")) is not None
    }
    found = []
    for number, layer in enumerate(layers, start=1):
        db = layer.maybe_number("sqnr_db")
        if db is None:
            continue
        known = [by_tensor[t] for t in reads.get(layer.text("tensor"), ()) if t in by_tensor]
        found.append(_Layer(number=number, values=layer, db=db, read=min(known, default=None)))
    if not found:
        raise Missing("variants[].layers[].sqnr_db")
    found.sort(key=lambda layer: layer.db)
    images = own.maybe_number("layer_images")
    told = f"Against float32, on {texts.plural(images, 'image')}. " if images else ""
    worst = sorted((x for x in found if (x.lost or 0) > 0.5), key=lambda x: -(x.lost or 0))
    if worst:
        names = ", ".join(
            f"{shown_name(x.values.text('name'))} ({x.lost:.1f} dB)" for x in worst[:_NAMED]
        )
        told += f"Most is lost in {names}, compared with the worst tensor that the layer reads."
    return [*([Lines([told])] if told else []), _table(found)]


def _table(found: Sequence[_Layer]) -> Table:
    most = max((x.db for x in found if x.db < _EQUAL_DB), default=1.0)
    rows: list[list[str | Markup]] = []
    for x in found:
        layer = x.values
        scale = layer.maybe_number("scale")
        name = svg.shortened(shown_name(layer.text("name")), _NAME_CHARS)
        rows.append(
            [
                f"{x.number}.{texts.NO_BREAK}{name}",
                _bar(x.db, most),
                "equal" if x.db >= _EQUAL_DB else texts.tenths(x.db),
                _db(layer.maybe_number("centred_sqnr_db")),
                texts.NONE if x.lost is None else texts.tenths(x.lost),
                layer.text("kind"),
                texts.count(layer.maybe_number("weight_bits")),
                texts.count(layer.maybe_number("activation_bits")),
                texts.NONE if scale is None else texts.scale([scale]),
            ]
        )
    columns = [
        Column(heading="layer", numeric=False),
        Column(heading="SQNR of its output", numeric=False, bars=True),
        Column(heading="SQNR (dB)"),
        Column(heading="centred SQNR (dB)"),
        Column(heading="lost in this layer (dB)"),
        Column(heading="operator", numeric=False),
        Column(heading="weights (bits)"),
        Column(heading="activations (bits)"),
        Column(heading="output scale"),
    ]
    return Table(label="SQNR of each layer, the worst first", columns=columns, rows=rows)


def _db(value: float | None) -> str:
    if value is None:
        return texts.NONE
    return "equal" if value >= _EQUAL_DB else texts.tenths(value)


def _bar(db: float, most: float) -> Markup:
    label = "equal to float32" if db >= _EQUAL_DB else f"{db:.1f} dB"
    share = min(max(db, 0.0) / most, 1.0) if most > 0 else 0.0
    box = svg.element("rect", class_="r-gemm", x=0, y=3, width=1000 * share, height=14)
    return svg.element(
        "svg", svg.element("title", label), box, class_="bar", viewBox="0 0 1000 20",
        preserveAspectRatio="none", role="img", aria_label=label,
    )  # fmt: skip


def _reads(report: Values, layers: Sequence[Values]) -> Mapping[str, set[str]]:
    """Return which tensors of other layers each layer's tensor is made of.

    A layer may be several of the graph's nodes, such as a convolution and the pooling behind it.
    """
    details = report.maybe_part("details")
    graph = None if details is None else details.maybe_part("graph")
    if graph is None:
        return {}
    known = {layer.text("tensor") for layer in layers}
    nodes = graph.parts("nodes")
    made_of = {
        node.text("name"): node.texts("inputs") for node in nodes if node.text("place") == "vta"
    }
    of_layers = {layer.text("tensor"): made_of.get(layer.text("name"), []) for layer in layers}
    made_of = of_layers | {node.text("output"): node.texts("inputs") for node in nodes}
    found: dict[str, set[str]] = {}
    for tensor in known:
        waiting, seen = list(made_of.get(tensor, ())), set[str]()
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += [] if name in known else made_of.get(name, [])
        found[tensor] = seen & known
    return found
