"""The files of a sweep."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flow.sweep.chart import picture
from flow.sweep.page import HTML_FILE, page
from flow.sweep.show import csv_text
from flow.system.files import write_atomic

if TYPE_CHECKING:
    from flow.results.sweep_document import SweepFields

JSON_FILE: Final = "machines.json"
CSV_FILE: Final = "machines.csv"
SVG_FILE: Final = "machines.svg"


def write(found: SweepFields, folder: Path, sources: Mapping[str, str]) -> tuple[Path, ...]:
    """Write a sweep; return the files.

    Parameters
    ----------
    found : SweepFields
    folder : Path
    sources : mapping of str to str
        Where constants of the model come from.

    Raises
    ------
    ArtifactError
        When one cannot be written.
    """
    text = json.dumps(found.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    contents = {
        JSON_FILE: text,
        CSV_FILE: csv_text(found),
        HTML_FILE: page(found, sources),
        SVG_FILE: picture(found),
    }
    return tuple(
        write_atomic(folder / name, content.encode(errors="backslashreplace"))
        for name, content in contents.items()
    )
