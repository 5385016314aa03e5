"""``report.html``: the sections in order, and the file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from flow.html import (
    explanation,
    headline,
    histograms,
    layers,
    memory_map,
    network,
    placement,
    reproduce,
    sqnr,
    variants,
    worst_images,
)
from flow.html.parts import Lines, Part, Section
from flow.html.render import render
from flow.html.values import Missing, Values
from flow.results.report import REPORT_FILE, SCHEMA_VERSION
from flow.system.files import write_atomic
from vta_config.errors import ArtifactError, CapacityError
from vta_config.files import read_bounded
from vta_config.text import shown_name

HTML_FILE: Final = "report.html"
#: A report of a network of a thousand layers, with pictures, is far below.
_MAX_BYTES: Final = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A section: where it is, and what makes its parts, or raises `Missing`."""

    anchor: str
    title: str
    about: str
    parts: Callable[[Values], list[Part]]
    #: What of the report is shown; a section with such a name is left out without it.
    only_with: str = ""


SECTIONS: Final = (
    Wanted(
        anchor="variants",
        title="Accuracy against latency",
        about="One point per variant: further up is more accurate, further left is faster. The "
        "deployed variant is the filled point.",
        parts=variants.charts,
    ),
    Wanted(
        anchor="table",
        title="Variants",
        about="SQNR is the signal-to-quantization-noise ratio of the outputs against float32; "
        "centred SQNR leaves out what all outputs of an image have in common.",
        parts=variants.table,
    ),
    Wanted(
        anchor="sqnr",
        title="SQNR of each layer",
        about="How near the output of each layer of the deployed variant is to that of float32, "
        "the worst first. A small SQNR may come from the layers before: what a layer loses itself "
        "is the difference to the worst tensor that it reads.",
        parts=sqnr.parts,
    ),
    Wanted(
        anchor="cycles",
        title="Cycles of each layer",
        about="The deployed variant, in execution order. Colours say what the layer waits for on "
        "the critical path; the solid line is its roofline, the dotted line its full roofline.",
        parts=layers.cycles,
    ),
    Wanted(
        anchor="roofline",
        title="Roofline",
        about="How many multiply-accumulates (MACs) a layer does per cycle, over how many it does "
        "per byte read. Numbers are those of the layers above.",
        parts=layers.roofline,
    ),
    Wanted(
        anchor="explanation",
        title="What bounds it, and what would help",
        about="What the deployed variant would take on other machines: each was compiled for and "
        "timed by the cycle-level simulator.",
        parts=explanation.parts,
        only_with="explanation",
    ),
    Wanted(
        anchor="network",
        title="The network as it runs",
        about="From top to bottom, one box per layer on VTA or operator on the host.",
        parts=network.parts,
    ),
    Wanted(
        anchor="placement",
        title="What ran where, and why",
        about="Operators that VTA does not run are computed by TVM on the host.",
        parts=placement.parts,
    ),
    Wanted(
        anchor="memory",
        title="Memory",
        about="Activations share DRAM: a box stands for a tensor, from the layer that writes it to "
        "the last one that reads it. Numbers are those of the layers above.",
        parts=memory_map.parts,
    ),
    Wanted(
        anchor="worst",
        title="Worst images",
        about="Images with another answer than float32 first, then those of the least SQNR. "
        "Pictures show the network's input, its values spread over the whole range.",
        parts=worst_images.parts,
    ),
    Wanted(
        anchor="histograms",
        title="Histograms",
        about="How the values of the deployed variant are spread, and which of them its integers "
        "reach. Values outside become the smallest or the largest integer.",
        parts=histograms.parts,
    ),
    Wanted(
        anchor="reproduce",
        title="How to reproduce it",
        about="The same command with the same model, images and versions gives the same numbers.",
        parts=reproduce.parts,
    ),
)


def sections(report: Values) -> list[Section]:
    """Return all sections; what the report does not hold is said in its place.

    A section of what has to be asked for is left out where it was not.

    Raises
    ------
    ArtifactError
        When a value has another type than reports have.
    """
    return [
        Section(
            anchor=wanted.anchor,
            title=wanted.title,
            about=wanted.about,
            parts=_parts(wanted.parts, report),
        )
        for wanted in SECTIONS
        if not wanted.only_with or report.maybe_part(wanted.only_with) is not None
    ]


def _parts(make: Callable[[Values], list[Part]], report: Values) -> Sequence[Part]:
    try:
        return make(report)
    except Missing as missing:
        version = report.maybe_number("schema_version") or 0
        older = "; an older release wrote it" if version < SCHEMA_VERSION else ""
        return [Lines([f"Not shown: the report holds no {missing}{older}."])]


def page(report: dict[str, Any]) -> str:
    """Return a report as a page: HTML that needs nothing from elsewhere.

    Parameters
    ----------
    report : dict
        The content of ``report.json``.

    Raises
    ------
    ArtifactError
        When a value has another type than reports have.
    ConfigError
        When the report's machine is none.
    """
    values = Values(report)
    model = values.maybe_part("model") or Values({})
    machine = values.maybe_part("machine") or Values({})
    tool = values.maybe_part("tool") or Values({})
    return render(
        "report.html.j2",
        title=shown_name(model.maybe_text("name") or "report"),
        deployed=values.maybe_text("deployed"),
        machine=shown_name(machine.maybe_text("NAME") or ""),
        date=values.maybe_text("date"),
        version=tool.maybe_text("version"),
        headline=_parts(headline.parts, values),
        sections=sections(values),
    )


def read_report(path: Path) -> dict[str, Any]:
    """Read ``report.json``.

    Raises
    ------
    ArtifactError
        When it cannot be read, or is no report.
    """
    try:
        found = json.loads(read_bounded(path, _MAX_BYTES), parse_constant=_not_finite)
    except OSError as error:
        raise _refused(path, error.strerror or error) from None
    except CapacityError as error:
        raise _refused(path, error) from None
    except (ValueError, RecursionError) as error:
        raise _refused(path, error) from None
    if not isinstance(found, dict) or "schema_version" not in found:
        raise _refused(path, "JSON without schema_version")
    return found


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"the number {text}")


def _refused(path: Path, got: object) -> ArtifactError:
    return ArtifactError(
        str(path),
        "must be a report of vta-flow",
        got=got,
        hint="give the output folder of vta-flow deploy or evaluate",
    )


def write_page(directory: Path) -> Path:
    """Write ``report.html`` from the ``report.json`` beside it; return its path.

    Raises
    ------
    ArtifactError
        When the report cannot be read or the page cannot be written.
    ConfigError
        When the report's machine is none.
    """
    text = page(read_report(directory / REPORT_FILE))
    return write_atomic(directory / HTML_FILE, text.encode(errors="backslashreplace"))
