"""Metrics as cells of tables, and the table of a network's outputs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from flow.results.evaluate import Metrics, OutputMetrics
from vta_config.text import shown_name


def percent_cell(share: float | None) -> str:
    """Return a share from 0 to 1 as a number of percent, for a column that names the unit."""
    return "–" if share is None else f"{100 * share:.2f}"


def sqnr_cells(metrics: Metrics | OutputMetrics) -> tuple[str, str]:
    """Return SQNR and centred SQNR as tables show them; "exact": no difference at all."""
    plain, centred = metrics.sqnr_db, metrics.centred_sqnr_db
    if plain is None:
        return "exact", "exact"
    return f"{plain:.2f}", "–" if centred is None else f"{centred:.2f}"


def outputs_table(variants: Sequence[Metrics]) -> Table | None:
    """Return a row for each output and variant, None for a network of one output."""
    measured = [v for v in variants if len(v.outputs) > 1 and v.name != "float32"]
    if not measured:
        return None
    table = Table(header_style="bold")
    for heading in ("output", "shape", "variant"):
        table.add_column(heading)
    for heading in ("SQNR\n(dB)", "centred\nSQNR (dB)"):
        table.add_column(heading, justify="right")
    for index, output in enumerate(measured[0].outputs):
        for place, variant in enumerate(measured):
            name = Text(shown_name(output.name) if place == 0 else "")
            shape = "×".join(map(str, output.shape)) if place == 0 else ""
            table.add_row(name, shape, variant.name, *sqnr_cells(variant.outputs[index]))
        table.add_section()
    return table
