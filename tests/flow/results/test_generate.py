"""flow.results.generate: the schemas are up to date, complete, and of the present versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from flow.results import estimate, generate, report
from flow.results.generate import FILES, FOLDER, main, schema
from vta_config import VTAConfig, preset_names

REPORT, ESTIMATE = "report.schema.json", "estimate.schema.json"


def test_the_files_are_up_to_date() -> None:
    assert main(["--check"]) == 0


def test_stale_or_missing_files_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(generate, "FOLDER", tmp_path)
    sentence = "must be up to date, got other text; run python -m flow.results.generate\n"
    assert main(["--check"]) == 2 and capsys.readouterr().err == f"{REPORT}: {sentence}"
    assert main([]) == 0 and main(["--check"]) == 0
    (tmp_path / ESTIMATE).write_text("{}")
    assert main(["--check"]) == 2 and capsys.readouterr().err == f"{ESTIMATE}: {sentence}"


@pytest.mark.parametrize("name", FILES)
def test_schemas_are_schemas(name: str) -> None:
    value = json.loads((FOLDER / name).read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(value)
    assert value["title"] == f"vta-flow {name.split('.')[0]}.json"


def top(name: str) -> dict[str, Any]:
    value = schema(name)
    found: dict[str, Any] = value["$defs"][value["$ref"].rpartition("/")[2]]["properties"]
    return found


def test_versions_are_those_of_the_files() -> None:
    assert top(REPORT)["schema_version"]["enum"] == [report.SCHEMA_VERSION]
    assert top(ESTIMATE)["schema_version"]["enum"] == [estimate.SCHEMA_VERSION]


def test_every_field_of_a_report_is_described() -> None:
    definitions = schema(REPORT)["$defs"]
    for name in ("ReportFields", "Variant", "LatencyFields", "LayerFacts", "PlacementFields"):
        for key, value in definitions[name]["properties"].items():
            assert value.get("description"), f"{name}.{key}"


def test_machines_are_valid() -> None:
    for name in preset_names():
        machine = VTAConfig.load(name).to_json()
        closed = generate.machine_schema() | {"additionalProperties": False}
        Draft202012Validator(closed).validate(machine)
        for key in machine:
            if key != "BURST_BEATS":
                left = {k: v for k, v in machine.items() if k != key}
                assert not Draft202012Validator(closed).is_valid(left), key
