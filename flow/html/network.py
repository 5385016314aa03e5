"""The network as a graph: what runs on VTA and what on the host, scales and bits on the edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from markupsafe import Markup

from flow.html import svg, texts
from flow.html.details import of_details
from flow.html.graph_layout import Layout, lay_out
from flow.html.parts import Drawing, Entry, Legend, Lines, Part
from flow.html.values import Missing, Values
from vta_config.text import shown_name

#: Sizes in pixels.
_BOX: Final = (204.0, 42.0)
_ROW: Final = 84.0
_POINT: Final = 10.0
_GAP: Final = 26.0
_MARGIN: Final = 12.0
#: Characters of a box's lines, and of the text at an edge.
_NAME_CHARS: Final = 27
_LINE_CHARS: Final = 31


def parts(report: Values) -> list[Part]:
    """Return the network as it runs.

    Raises
    ------
    Missing
        When the report does not hold it.
    """
    graph = of_details(report, "graph").part("graph")
    nodes = graph.parts("nodes")
    if not nodes:
        raise Missing("details.graph.nodes")
    tensors = {tensor.text("name"): tensor for tensor in graph.parts("tensors")}
    outputs = set(graph.texts("outputs"))
    makers = {node.text("output"): k for k, node in enumerate(nodes)}
    edges = [(makers[i], k) for k, node in enumerate(nodes) for i in node.texts("inputs")
             if i in makers]  # fmt: skip
    laid = lay_out(len(nodes), edges, box=_BOX[0], point=_POINT, gap=_GAP)
    reasons = _reasons(report)
    on_vta = sum(node.text("place") == "vta" for node in nodes)
    inputs = sum(node.text("operator") == "input" for node in nodes)
    on_host = len(nodes) - on_vta - inputs
    programs = {node.maybe_text("program") for node in nodes} - {None, ""}
    label = (
        f"Network of {texts.plural(on_vta, 'layer')} on VTA and "
        f"{texts.plural(on_host, 'operator')} on the host, data flowing from top to bottom"
    )
    drawing = _drawn(nodes, tensors, outputs, laid, reasons, label, several=len(programs) > 1)
    entries = [
        Entry(colour="on-vta", text=f"on VTA: {texts.plural(on_vta, 'layer')}"),
        Entry(colour="on-host", text=f"on the host: {texts.plural(on_host, 'operator')}"),
        Entry(colour="input", text="input of the network"),
    ]
    told = "At an edge: bits of the tensor, its scale, and its zero point z where it has one."
    return [Legend(entries), Drawing(label=label, svg=drawing, caption=told), *_floats(tensors)]


def _floats(tensors: Mapping[str, Values]) -> list[Part]:
    if any(tensor.numbers("scale") for tensor in tensors.values()):
        return []
    return [Lines(["This variant has no quantization plan, so no scales are known."])]


def _reasons(report: Values) -> dict[str, str]:
    """Return why an operator is on the host, by the tensor that it makes."""
    placement = report.maybe_part("placement")
    found = [] if placement is None else placement.maybe_parts("fallbacks") or []
    return {operator.text("name"): operator.text("reason") for operator in found}


def _drawn(
    nodes: Sequence[Values],
    tensors: Mapping[str, Values],
    outputs: set[str],
    laid: Layout,
    reasons: Mapping[str, str],
    label: str,
    *,
    several: bool,
) -> Markup:
    width, height = _BOX
    room = laid.width + 2 * _MARGIN
    drawn: list[Markup] = []

    def top(k: int) -> float:
        return _MARGIN + laid.rows[k] * _ROW

    for source, target, points in laid.edges:
        x, y = _MARGIN + laid.centres[source], top(source) + height
        d = f"M{svg.number(x)} {svg.number(y)}"
        stops = [(p + _MARGIN, _MARGIN + (laid.rows[source] + 1 + i) * _ROW)
                 for i, p in enumerate(points)]  # fmt: skip
        for u, v in [*stops, (_MARGIN + laid.centres[target], top(target))]:
            bend = svg.number((y + v) / 2)
            d += f"C{svg.number(x)} {bend} {svg.number(u)} {bend} {svg.number(u)} {svg.number(v)}"
            x, y = u, v
            if (u, v) in stops:  # past the boxes of its row
                y = v + height
                d += f"V{svg.number(y)}"
        drawn.append(svg.element("path", d=d, class_="edge"))
    for k, node in enumerate(nodes):
        left, at = _MARGIN + laid.centres[k] - width / 2, top(k)
        drawn.append(_box(node, tensors, reasons, left, at, several=several))
        name = node.text("output")
        if name in tensors:
            told = _edge_text(tensors[name])
            told += " · output" if name in outputs else ""
            x = min(left + width / 2 + 6, room - len(told) * svg.LETTER * 11)
            drawn.append(svg.text(x, at + height + 13, told, "at-edge"))
    total = max(laid.rows) * _ROW + height + 2 * _MARGIN + 16
    return svg.picture(room, total, label, *drawn, class_="network")


def _box(
    node: Values,
    tensors: Mapping[str, Values],
    reasons: Mapping[str, str],
    left: float,
    top: float,
    *,
    several: bool,
) -> Markup:
    name, operator, place = node.text("name"), node.text("operator"), node.text("place")
    tensor = tensors.get(node.text("output"))
    shape = "×".join(f"{n:g}" for n in (tensor.numbers("shape") if tensor else []))
    kind = "input" if operator == "input" else "on-vta" if place == "vta" else "on-host"
    where = {"input": "input", "on-vta": "on VTA", "on-host": "on the host"}[kind]
    if several and kind == "on-vta":
        where += f", program {node.text('program')}"
    told = f"{shown_name(name)}: {operator}, {where}; {shape}"
    if kind == "on-host" and (reason := reasons.get(name) or reasons.get(node.text("output"))):
        told += f"; {reason}"
    width, height = _BOX
    middle = left + width / 2
    lines = f"{operator.removeprefix('nn.')} → {shape}" if shape else operator
    box = {"x": left, "y": top, "width": width, "height": height, "rx": 5.0}
    return svg.element(
        "g",
        svg.element("title", told),
        svg.element("rect", class_=kind, **box),
        svg.text(middle, top + 18, svg.shortened(shown_name(name), _NAME_CHARS), "name", "middle"),
        svg.text(middle, top + 33, svg.shortened(lines, _LINE_CHARS), "operator", "middle"),
    )


def _edge_text(tensor: Values) -> str:
    scales = tensor.numbers("scale")
    if not scales:
        return tensor.text("dtype")
    told = f"{tensor.number('bits'):g} bits · {texts.scale(scales)}"
    if zero := tensor.maybe_number("zero_point"):
        told += f" · z {zero:g}".replace("-", "−")
    return told
