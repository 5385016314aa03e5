"""The document of a sweep as JSON; every test of a sweep checks it against the schema."""

from __future__ import annotations

from tests.flow.sweep.sweeps import sweep
from vta_config import VTAConfig


def test_json() -> None:
    found = sweep()
    value = found.to_json()
    assert value["schema_version"] == 1
    assert value["axes"]["block"] == [16, 32]
    assert [row["machine_id"] for row in value["rows"]] == list(range(1, 9))
    assert VTAConfig.from_json(value["rows"][0]["machine"]) == found.rows[0].machine
    assert value["rows"][2]["machine"] is None
    assert value["rows"][0]["dominated_by"]["choices"] == [{"axis": "bus", "own": 64, "other": 128}]
