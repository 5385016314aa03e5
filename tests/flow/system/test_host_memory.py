"""Memory that goes back to the system is no longer anybody's: what is alive keeps its values."""

from __future__ import annotations

import numpy as np

from flow.frontend.importer import import_model
from flow.system.host_memory import give_back
from relay_passes.host.run import HostModule
from tests.flow.onnx_models import save, tiny_model


def test_living_modules_and_results_keep_their_values(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = import_model(save(tiny_model(), tmp_path / "tiny.onnx"))
    run = HostModule(model.mod, fast=True)
    image = np.random.default_rng(0).normal(size=run.input_shapes[0]).astype(np.float32)
    first = run(image)[0]
    kept = first.copy()
    give_back()
    np.testing.assert_array_equal(first, kept)
    for _ in range(3):
        np.testing.assert_array_equal(run(image)[0], kept)
        give_back()
    np.testing.assert_array_equal(first, kept)
