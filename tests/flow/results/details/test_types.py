"""Details as JSON."""

from __future__ import annotations

import json

from flow.results.details.types import Details
from tests.flow.fakes import DETAILS


def test_details_are_json() -> None:
    value = json.loads(json.dumps(DETAILS.to_json()))
    assert value["graph"]["nodes"][0]["inputs"] == ["data"]
    assert value["memory"][0]["regions"][0]["size_bytes"] == 512
    assert value["worst_images"] is None and value["left_out"] == {}
    assert set(Details().to_json()) == set(value)
