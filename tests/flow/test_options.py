"""What the user asks for goes together, or is refused in a sentence."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

import flow.sim
from flow.options import (
    BEST_VARIANT,
    KNOWN_VARIANTS,
    MAIN_VARIANTS,
    OTHERS_EXACT_IMAGES,
    PLANNED_VARIANTS,
    PREFERENCE,
    UNCALIBRATED,
    VARIANTS,
    Options,
)
from flow.sim.core_library import LIBRARY
from flow.worker_request import Workers
from relay_passes.variants import KEPT, ZERO_SHOT_OF
from vta_config.errors import (
    ConfigError,
)


def test_a_timeout_needs_a_driver() -> None:
    sentence = r"--driver-timeout: must be given with --engine driver, got --engine fsim; leave it"
    with pytest.raises(ConfigError, match=sentence):
        Options(driver_timeout_s=1.0)


def test_a_driver_is_taken(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_text("no simulator of ours")
    options = Options(engine="driver", driver=tmp_path / "lib.so", driver_timeout_s=2.5)
    assert (options.driver, options.driver_timeout_s) == (tmp_path / "lib.so", 2.5)


def test_the_order_of_preference() -> None:
    assert PREFERENCE[0] == BEST_VARIANT == "best"
    assert set(PLANNED_VARIANTS) == {*KNOWN_VARIANTS} - {"stock_relay"}
    assert UNCALIBRATED == {"stock_relay", "single_scale", *ZERO_SHOT_OF, *KEPT}
    assert OTHERS_EXACT_IMAGES < Options().exact_images


def test_every_variant_has_its_place() -> None:
    assert sorted(PREFERENCE) == sorted(KNOWN_VARIANTS)
    assert set(MAIN_VARIANTS) <= set(VARIANTS)
    assert UNCALIBRATED <= set(KNOWN_VARIANTS)


def test_a_driver_runs_in_one_process(tmp_path: Path) -> None:
    (tmp_path / "lib.so").write_text("no simulator of ours")
    for workers in (Workers(jobs=2), Workers(cluster="tcp://host:8786")):
        with pytest.raises(
            ConfigError,
            match="^--engine driver: must run in one process: there is one device, got --jobs or "
            "--cluster; leave it out$",
        ):
            Options(engine="driver", driver=tmp_path / "lib.so", workers=workers)
    Options(engine="driver", driver=tmp_path / "lib.so", workers=Workers(jobs=1))


def test_engine_and_driver_go_together(tmp_path: Path) -> None:
    sentence = r"--driver: must be given with --engine driver, and only then, got --engine driver, "
    with pytest.raises(ConfigError, match=sentence):
        Options(engine="driver")
    with pytest.raises(ConfigError, match=r"only then, got --engine fsim, --driver x.so; give"):
        Options(driver=Path("x.so"))
    with pytest.raises(ConfigError, match=r"--driver: must be a shared library, got .*missing; ch"):
        Options(engine="driver", driver=tmp_path / "x.so")


@pytest.mark.parametrize("name", ["libvta_sim.so", "renamed.so"])
def test_own_simulator_is_no_driver(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes((Path(flow.sim.__file__).parent / LIBRARY).read_bytes())
    sentence = r"--driver: must not be this package's own simulator, got .*; use --eng"
    with pytest.raises(ConfigError, match=sentence):
        Options(engine="driver", driver=tmp_path / name)


def test_options_as_json_are_what_results_depend_on() -> None:
    options = Options(images=Path("pictures"), seed=7, cache=Path("here"), limit=3)
    value = options.to_json()
    assert json.loads(json.dumps(value)) == value
    assert set(value) == {f.name for f in fields(Options)} - {
        "mirrors", "cache", "keep_results", "workers",
    }  # fmt: skip
    assert value["images"] == "pictures" and value["limit"] == 3 and value["driver"] is None
    assert value["learn"] == {"effort": "default", "device": "cpu"}
    assert options.seeds == {"images": 7, "distill": 0, "learn": 0}
