"""Keys: every part counts, in every process alike."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.cache import keys
from flow.cache.keys import UnknownValueError, key_of, told
from relay_passes.quant_options import QuantOptions
from relay_passes.variants import RECIPES
from vta_config import VTAConfig, preset_names

LARGE = np.arange(5000)


@dataclass(frozen=True)
class One:
    x: object = 1


@dataclass(frozen=True)
class Other:
    x: object = 1


def test_different_values_have_different_keys() -> None:
    changed = LARGE.copy()
    changed[2500] += 1  # in the middle, where a printed array has dots
    values: list[Any] = [
        1, 2, 1.0, -0.0, 0.0, True, None, "1", "", b"1", Path("1"), Fraction(1, 3), (), [], {},
        set(), (1,), [1], {1}, {1: 2}, {2: 1}, ((1,),), (1, 2), ("1, 2",), One(), One(2), Other(),
        float("inf"), float("nan"), LARGE, changed, LARGE.astype(np.int32), LARGE.reshape(2, -1),
        np.float32(1), np.float64(1), np.int64(1),
    ]  # fmt: skip
    assert len({key_of(value) for value in values}) == len(values)
    assert key_of(1, 2) != key_of((1, 2))


def test_what_is_equal_has_one_key() -> None:
    assert key_of({"a": 1, "b": {2, 3}}) == key_of({"b": {3, 2}, "a": 1})
    assert key_of(np.asfortranarray(LARGE.reshape(2, -1))) == key_of(LARGE.reshape(2, -1))
    assert key_of(One((1, LARGE))) == key_of(One((1, LARGE.copy())))


@pytest.mark.parametrize("value", [object(), lambda: 1, One(object()), np.array([object()]), int])
def test_what_has_no_key(value: object) -> None:
    with pytest.raises(UnknownValueError):
        key_of(value)


def test_every_recipe_and_machine_has_a_key() -> None:
    assert len({told(recipe.options) for recipe in RECIPES.values()}) > len(RECIPES) // 2
    machines = [VTAConfig.load(name) for name in preset_names()]
    assert len({key_of(machine) for machine in machines}) == len(machines)
    options = QuantOptions()
    assert key_of(replace(options, fuse=not options.fuse)) != key_of(options)


def test_keys_are_the_same_in_every_process() -> None:
    code = (
        "from flow.cache.keys import key_of; from relay_passes.variants import RECIPES;"
        "print(key_of(RECIPES['best'].options, {'a', 'b', 'c'}))"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(keys.__file__).parents[2])},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    ]
    assert runs == [key_of(RECIPES["best"].options, {"a", "b", "c"})] * 2


@pytest.mark.parametrize("what", ["a source", "a library", "Python", "the processor"])
def test_the_environment_counts(what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = keys.environment()
    assert before == keys.environment.__wrapped__()
    if what == "a source":
        package = tmp_path / "vta_config"
        package.mkdir()
        (package / "__init__.py").write_text("")
        monkeypatch.setattr(keys.vta_config, "__file__", str(package / "__init__.py"))
    elif what == "a library":
        version = keys._version
        monkeypatch.setattr(keys, "_version", lambda x: "9" if x == "numpy" else version(x))
    elif what == "Python":
        monkeypatch.setattr("platform.python_version", lambda: "3.99")
    else:
        monkeypatch.setattr(keys, "read_bounded", lambda *of: b"model name: other\nflags: a b")
    assert keys.environment.__wrapped__() != before


def test_a_processor_that_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*of: object) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(keys, "read_bounded", missing)
    assert isinstance(keys._processor(), bytes)


def test_all_libraries_are_known() -> None:
    assert all(keys._version(name) for name in keys.LIBRARIES if name != "torch")
    assert keys._version("no-such-library") == ""
