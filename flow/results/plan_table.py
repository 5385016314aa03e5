"""The table of ``vta-flow scales``: scales of each layer, and their shifts and multipliers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from flow.results.fitted_table import FittedTable
from flow.results.report import error_cell, name_cell
from relay_passes.integers.plan import LayerPlan, QuantPlan
from relay_passes.params import QuantParams, scale_text
from vta_config.text import printable

#: The most different integers that a cell lists; where there are more, it shows the range.
_LISTED: Final = 4


def plan_table(plan: QuantPlan) -> Table:
    """Return the plan as a table, one row per layer."""
    table = FittedTable(padding=0)
    table.add("layer", is_number=False)
    table.add("output tensor", is_number=False, rank=3)
    for heading, rank in (
        ("input scale", 2),
        ("weight scale", 1),
        ("accumulator scale", 4),
        ("output scale", 0),
        ("width: input, weight, output (bits)", 2),
        ("shift (bits)", 0),
        ("multiplier", 1),
        ("residual multiplier", 3),
        ("relative error", 4),
    ):
        table.add(heading, rank=rank)
    for layer in plan.layers:
        requant = layer.requant
        table.add_row(
            name_cell(layer.name),
            name_cell(layer.output) if layer.output else Text("int32"),
            *_scales(plan, layer),
            "–" if requant is None else _integers(requant.shift),
            "–" if requant is None else _integers(requant.multiplier),
            _residuals(plan, layer),
            "–" if requant is None else error_cell(requant.relative_error),
        )
    return table


def host_lines(plan: QuantPlan) -> list[str]:
    """Return a line for each operator and tensor that stays on the host, with the reason."""
    left = [f"{name} runs in float32: {reason}" for name, reason in plan.host.items()]
    left += [f"{name} is quantized on the host: {reason}" for name, reason in plan.floats.items()]
    return [("on host    " if i == 0 else " " * 11) + printable(x) for i, x in enumerate(left)]


def _scales(plan: QuantPlan, layer: LayerPlan) -> tuple[str, ...]:
    """Return the cells of the scales: inputs, weights, accumulator, output; and of the bits."""
    weights = [plan.weights[name] for name in layer.operators if name in plan.weights]
    inputs = [plan.tensors[name] for name in layer.inputs[: max(1, len(weights))]]
    outputs = [plan.tensors[layer.output]] if layer.output else []
    bits = (_bits(inputs), _bits(weights), _bits(outputs))
    of_input, of_weight, of_output = (
        _range([scale for p in params for scale in p.scale])
        for params in (inputs, weights, outputs)
    )
    of_accumulator = _range(plan.accumulator_scales(layer))
    return of_input, of_weight, of_accumulator, of_output, ", ".join(bits)


def _range(scales: Sequence[float]) -> str:
    """Return one scale, or the smallest and the largest."""
    if not scales:
        return "–"
    low, high = scale_text(min(scales)), scale_text(max(scales))
    return low if low == high else f"{low} to {high}"


def _bits(params: Sequence[QuantParams]) -> str:
    return "/".join(dict.fromkeys(str(p.bits) for p in params)) or "–"


def _integers(values: Iterable[int]) -> str:
    """Return the different integers, or of many the smallest and the largest."""
    found = sorted(set(values))
    if len(found) <= _LISTED:
        return ", ".join(map(str, found))
    return f"{found[0]} to {found[-1]}"


def _residuals(plan: QuantPlan, layer: LayerPlan) -> str:
    """Return the factors of the residuals that the layer adds, shifts included."""
    cells = []
    for name in layer.operators:
        if (added := plan.sums.get(name)) is None:
            continue
        if added.left_out:
            cells.append("0 (too small)")
        elif set(added.multiplier) != {1}:
            cells.append(_integers(added.multiplier))
        else:
            cells.append(_integers(1 << shift for shift in added.second_shift))
            if any(added.first_shift):
                shifts = _integers(1 << shift for shift in added.first_shift)
                cells[-1] += f" (accumulator × {shifts})"
    return "; ".join(cells)
