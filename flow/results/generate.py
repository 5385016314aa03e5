"""Write the JSON Schemas of our JSON files from the classes of their fields.

``python -m flow.results.generate`` writes them; with ``--check`` it only compares, and fails when
one is stale.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Final, get_type_hints

from flow.options import NOT_REPORTED, Options
from flow.results.document import ReportFields
from flow.results.estimate_document import EstimateFields
from flow.results.explanation import Explanation
from flow.results.schema import schema_of
from flow.results.sweep_document import SweepFields
from vta_config.generated import write_or_check
from vta_config.hardware import VTAConfig

COMMAND: Final = "python -m flow.results.generate"
FOLDER: Final = Path(__file__).parent
#: The class of each file's fields, by the schema's file name.
FILES: Final[Mapping[str, type]] = {
    "report.schema.json": ReportFields,
    "estimate.schema.json": EstimateFields,
    "machines.schema.json": SweepFields,
    "explain.schema.json": Explanation,
}


def machine_schema() -> dict[str, Any]:
    """Return the schema of a machine: the keys of the original ``vta_config.json`` and ours."""
    keys = [f.metadata["key"] for f in fields(VTAConfig) if "key" in f.metadata]
    types = get_type_hints(VTAConfig)
    assert all(types[f.name] is int for f in fields(VTAConfig) if "key" in f.metadata)
    own = {
        "NAME": {"type": "string"},
        "CLOCK_HZ": {"type": "number"},
        "BUS_BITS": {"type": "integer"},
        "CAPABILITIES": {"type": "array", "items": {"type": "string"}},
        "TIMING": {"type": "string"},
    }
    return {
        "type": "object",
        "description": "The machine, as --config reads it.",
        "properties": {key: {"type": "integer"} for key in keys}
        | own
        | {"BURST_BEATS": {"type": "integer"}},
        "required": [*keys, *own],
    }


def schema(name: str, *, closed: bool = False) -> dict[str, Any]:
    """Return the schema of a file; `closed`: in which further keys are faults."""
    return schema_of(
        FILES[name],
        title=f"vta-flow {name.partition('.')[0]}.json",
        special={VTAConfig: machine_schema},
        without={Options: NOT_REPORTED},
        closed=closed,
    )


def text_of(name: str) -> str:
    """Return the text of a schema's file."""
    return json.dumps(schema(name), indent=1, ensure_ascii=False) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Write or compare the schemas; return the exit code."""
    return write_or_check(
        COMMAND,
        "Write the JSON Schemas.",
        lambda: [(FOLDER / name, text_of(name)) for name in FILES],
        argv,
    )


if __name__ == "__main__":
    sys.exit(main())
