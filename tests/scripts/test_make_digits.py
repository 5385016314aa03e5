"""scripts/make_digits.py: it makes the file that the package has."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from flow.data.digits import DIGITS_FILE

pytest.importorskip("sklearn.datasets", reason="scikit-learn is no dependency")
SCRIPT = Path(__file__).parents[2] / "scripts" / "make_digits.py"


def test_it_makes_the_bundled_file(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_digits", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.make(tmp_path / "digits.npz")
    with np.load(tmp_path / "digits.npz") as made, np.load(DIGITS_FILE) as bundled:
        assert set(made) == set(bundled)
        for name in made:
            assert made[name].dtype == bundled[name].dtype
            np.testing.assert_array_equal(made[name], bundled[name])
