"""The network that is measured is the one that it is named after."""

from __future__ import annotations

import numpy as np
import onnx

from scripts.bench_network import ResNet18, noise


def test_random_network_is_a_resnet18() -> None:
    proto = ResNet18().model()
    onnx.checker.check_model(proto)
    kinds = [node.op_type for node in proto.graph.node]
    assert (kinds.count("Conv"), kinds.count("Add"), kinds.count("Gemm")) == (20, 8, 1)
    weights = sum(int(np.prod(w.dims)) for w in proto.graph.initializer)
    assert 11_600_000 < weights < 11_800_000


def test_images_are_all_different() -> None:
    first, second = noise(2, (1, 3, 8, 8))
    assert first.shape == second.shape == (1, 3, 8, 8) and not np.array_equal(first, second)
