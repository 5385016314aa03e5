"""What ran where, and why."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup

from flow.html import texts
from flow.html.parts import Column, Facts, Lines, Part, Table
from flow.html.values import Values
from vta_config.text import printable

#: Operators that a row names; the rest are counted.
_NAMED: Final = 40
_LABEL_CHARS: Final = 120


def parts(report: Values) -> list[Part]:
    """Return the share of VTA, and the operators on the host by reason.

    Raises
    ------
    Missing
        When nothing was compiled.
    """
    placement = report.part("placement")
    share = placement.maybe_number("vta_mac_share")
    macs = placement.number("macs")
    facts: list[tuple[str, str | Markup]] = [
        ("programs for VTA", texts.count(placement.number("programs"))),
        ("multiply-accumulates per image", f"{macs / 1e6:,.2f} million"),
        ("of these on VTA", texts.NONE if share is None else f"{texts.percent(share)} %"),
        ("copied between host and VTA", texts.size(placement.number("crossing_bytes"))),
    ]
    found: list[Part] = [Facts(facts)]
    reasons: dict[str, list[Values]] = {}
    for operator in placement.parts("fallbacks"):
        reasons.setdefault(operator.text("reason"), []).append(operator)
    rows: list[Sequence[str | Markup]] = [
        [reason, texts.count(len(operators)), _listed(operators)]
        for reason, operators in sorted(reasons.items(), key=lambda item: -len(item[1]))
    ]
    for what, key in (
        ("preprocessing of the input, before VTA", "before"),
        ("post-processing of the outputs, behind VTA", "behind"),
    ):
        if operators := placement.maybe_parts(key):
            rows.append([what, texts.count(len(operators)), _listed(operators)])
    if rows:
        columns = [
            Column(heading="why", numeric=False),
            Column(heading="operators"),
            Column(heading="which", numeric=False, wide=True),
        ]
        found.append(Table(label="Operators on the host, by reason", columns=columns, rows=rows))
    if not reasons:
        ends = "Besides this, the host only" if rows else "The host only"
        found.append(Lines([f"{ends} quantizes the input and dequantizes the outputs."]))
    return found


def _listed(operators: Sequence[Values]) -> str:
    """Name the operators: the ONNX node and its operator, else the tensor and Relax's."""
    labels = []
    for operator in operators[:_NAMED]:
        kind = operator.text("operator")
        known = "" if kind in ("quantize", "dequantize") else operator.maybe_text("node_type")
        name = operator.maybe_text("node") or operator.text("name")
        labels.append(printable(f"{name} ({known or kind})", _LABEL_CHARS))
    more = len(operators) - _NAMED
    return ", ".join(labels) + (f" and {more:,} more" if more > 0 else "")
