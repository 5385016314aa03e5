"""What is said of an exported file."""

from __future__ import annotations

import numpy as np

from flow.export.check import ExportCheck, check_export
from flow.export.graph import GraphWriter


def test_results_are_compared() -> None:
    graph = GraphWriter()
    x = graph.fresh("x")
    y = graph.node("Mul", [x, graph.number(2.0, np.float32)], "y")
    proto = graph.model([(x, (1, 3))], [(y, "out", (1, 3))], "net")
    images = [np.full((1, 3), value, np.float32) for value in (1.0, 2.0)]
    same = check_export(proto, lambda image: image * 2, images)
    assert same.agrees and (same.images, same.equal) == (2, 2)
    assert str(same) == "2 of 2 images have equal results on ONNX Runtime"
    other = check_export(proto, lambda image: image * image + 1, images)
    assert not other.agrees and other.equal == 1
    assert str(other) == (
        "1 of 2 images have equal results on ONNX Runtime; largest difference 1, results up to 5"
    )


def test_rounding_of_float32_is_no_difference() -> None:
    assert ExportCheck(images=1, equal=0, largest=1e-6, reach=10.0).agrees
    assert not ExportCheck(images=1, equal=0, largest=1e-4, reach=10.0).agrees
