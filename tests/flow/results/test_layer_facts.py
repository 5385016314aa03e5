"""flow.results.layer_facts: the CSV table of layers."""

from __future__ import annotations

import csv
import io

from flow.results.layer_facts import LayerFacts, layers_csv


def test_a_row_for_each_variant_and_layer() -> None:
    conv = LayerFacts(
        name='a,"b"', kind="conv2d", tensor="t", sqnr_db=20.5, weight_bits=4, scale=0.25, cycles=12
    )
    pool = LayerFacts(name="pool", kind="max_pool2d", tensor="p")
    rows = list(csv.DictReader(io.StringIO(layers_csv([("x", [conv, pool]), ("y", [conv])]))))
    assert [(row["variant"], row["name"]) for row in rows] == [
        ("x", 'a,"b"'), ("x", "pool"), ("y", 'a,"b"'),
    ]  # fmt: skip
    assert rows[0]["sqnr_db"] == "20.5" and rows[0]["weight_bits"] == "4"
    assert rows[1]["sqnr_db"] == rows[1]["cycles"] == "" and rows[1]["macs"] == "0"
    assert list(rows[0])[:3] == ["variant", "name", "kind"]
    assert layers_csv([]).count("\n") == 1
