"""Read the reports that are compared: a file, a folder, one variant of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flow.diff.quantities import Values, of_layers, of_variant
from flow.results.report import REPORT_FILE, SCHEMA_VERSION
from vta_config.errors import ArtifactError, ConfigError
from vta_config.files import read_bounded

#: Reports of these versions can be read.
OLDEST_VERSION: Final = 3
_MOST_BYTES: Final = 1 << 28
FLOAT32: Final = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantNumbers:
    """What is compared of one variant.

    Parameters
    ----------
    name : str
    values : mapping of str to float
        By quantity.
    layers : mapping of str to mapping of str to float
        By layer and quantity, in execution order.
    host : mapping of str to str
        Why an operator is on the host, by its tensor.
    partial : bool, optional
        Whether the latency leaves operators on the host out; None without latency.
    """

    name: str
    values: Values
    layers: Mapping[str, Values]
    host: Mapping[str, str]
    partial: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two reports.

    Parameters
    ----------
    label : str
        As the user gave it.
    path : Path
        The file.
    report : mapping
        Its content.
    variants : mapping of str to VariantNumbers
        In the order of the report.
    chosen : str
        The variant that is compared; "" for all.
    """

    label: str
    path: Path
    report: Mapping[str, Any]
    variants: Mapping[str, VariantNumbers]
    chosen: str = ""


def read_side(text: str) -> Side:
    """Read ``FILE``, ``FOLDER``, or one variant of a report: ``FOLDER:best``.

    Raises
    ------
    ArtifactError
        When there is no report that can be read.
    ConfigError
        When it does not have the variant.
    """
    path, _, chosen = Path(text), "", ""
    if not path.exists() and ":" in text:
        before, _, after = text.rpartition(":")
        path, chosen = Path(before), after
    if path.is_dir():
        path = path / REPORT_FILE
    report = _report(path)
    try:
        variants = {str(v["name"]): _numbers(v) for v in report["variants"]}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _no_report(path, f"{type(error).__name__}: {error}") from None
    if chosen and chosen not in variants:
        raise ConfigError(
            text,
            f"must name a variant that the report has: {', '.join(variants)}",
            got=chosen,
            hint="choose one of these",
        )
    return Side(label=text, path=path, report=report, variants=variants, chosen=chosen)


def _numbers(variant: Mapping[str, Any]) -> VariantNumbers:
    placement = variant.get("placement") or {}
    return VariantNumbers(
        name=str(variant["name"]),
        values=of_variant(variant),
        layers=of_layers(variant),
        partial=(variant.get("latency") or {}).get("partial"),
        host={str(f["name"]): str(f["reason"]) for f in placement.get("fallbacks") or ()},
    )


def _report(path: Path) -> Mapping[str, Any]:
    """Read the JSON of a report."""
    try:
        value = json.loads(read_bounded(path, _MOST_BYTES), parse_constant=_refuse)
    except OSError as error:
        raise ArtifactError(
            str(path),
            "must be a report that can be read",
            got=error.strerror or str(error),
            hint="give report.json of vta-flow deploy, or its folder",
        ) from None
    except (ValueError, RecursionError) as error:
        raise _no_report(path, f"{type(error).__name__}: {error}") from None
    version = value.get("schema_version") if isinstance(value, dict) else None
    if version is None or "variants" not in value:
        raise _no_report(path, "something else")
    if version not in range(OLDEST_VERSION, SCHEMA_VERSION + 1):
        raise ArtifactError(
            str(path),
            f"must have schema_version {OLDEST_VERSION} to {SCHEMA_VERSION}",
            got=version,
            hint="make the report again with this version of vta-flow",
        )
    found: Mapping[str, Any] = value
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _no_report(path: Path, got: str) -> ArtifactError:
    return ArtifactError(
        str(path),
        "must be a report of vta-flow",
        got=got,
        hint="give report.json of vta-flow deploy, or its folder",
    )
