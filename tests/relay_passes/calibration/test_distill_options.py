"""Options of distillation."""

from __future__ import annotations

import pytest

from relay_passes.calibration.distill_options import DistillOptions
from vta_config.errors import ConfigError


def test_options_are_checked() -> None:
    for name in ("images", "batch", "steps"):
        must = f"distill.{name}: must be at least 1, got 0; raise it"
        with pytest.raises(ConfigError, match=must):
            DistillOptions(**{name: 0})
    with pytest.raises(ConfigError, match="distill.seed: must be at least 0, got -1"):
        DistillOptions(seed=-1)
    must = "distill.precision: must be auto, float32 or bfloat16, got int8; choose one of these"
    with pytest.raises(ConfigError, match=must):
        DistillOptions(precision="int8")
    assert DistillOptions(images=65, batch=32).batches == 3
