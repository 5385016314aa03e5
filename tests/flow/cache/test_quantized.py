"""Integer modules, choices and programs: made once, and anew where anything differs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.cache.modules import module_digest
from flow.cache.quantized import KeptQuantization, compiled_key, kept_programs
from flow.cache.store import Cache, files_in
from flow.data.datasets import Dataset, random_images
from flow.data.models import DIGITS, bundled_data, load_model
from flow.frontend.importer import ImportedModel
from flow.pipeline import Pipeline
from relay_passes.selection.choices import Choice
from relay_passes.variants import RECIPES
from tests.flow.cache.test_modules import small
from vta_config import VTAConfig

MACHINE = VTAConfig.load("default")
IMAGES = random_images((1, 2, 4, 4), 2)


class Maker:
    """Counts what is made."""

    def __init__(self, value: Any) -> None:
        self.value, self.count = value, 0

    def __call__(self) -> Any:
        self.count += 1
        return self.value


def kept(
    folder: Path | None, *, machine: VTAConfig = MACHINE, images: object = IMAGES, **other: Any
) -> KeptQuantization:
    found = KeptQuantization(Cache(folder), small(**other), machine)
    found.start(images)
    return found


def test_each_part_of_the_key_counts(tmp_path: Path) -> None:
    maker = Maker(small(note="integers"))
    options = RECIPES["best"].options
    first = kept(tmp_path).module(options, maker)
    again = kept(tmp_path).module(options, maker)
    assert maker.count == 1 and module_digest(first) == module_digest(again)
    others = [
        kept(tmp_path, bias=0.5),
        kept(tmp_path, machine=replace(MACHINE, name="other")),
        kept(tmp_path, images=IMAGES.at([0])),
        kept(tmp_path, images=random_images((1, 2, 4, 5), 2)),
        kept(tmp_path / "other"),
    ]
    for count, other in enumerate(others, start=2):
        other.module(options, maker)
        assert maker.count == count
    kept(tmp_path).module(replace(options, fuse=not options.fuse), maker)
    assert maker.count == len(others) + 2
    kept(tmp_path).module((options, (0,)), maker)  # of a part of the images
    assert maker.count == len(others) + 3


@pytest.mark.parametrize("images", [[np.zeros((1, 2, 4, 4), np.float32)], None])
def test_images_without_keys(tmp_path: Path, images: object) -> None:
    maker = Maker(small())
    for _ in range(2):
        kept(tmp_path, images=images).module((), maker)
    assert maker.count == 2 and not files_in(tmp_path)


def test_what_is_not_kept(tmp_path: Path) -> None:
    for maker, own, facts in (
        (Maker(small()), kept(None), ()),
        (Maker(small()), kept(tmp_path), lambda: 1),  # options that have no key
        (Maker(small().with_attr("odd", [1])), kept(tmp_path), ()),
    ):
        for count in (1, 2):
            own.module(facts, maker)
            assert maker.count == count
    odd = KeptQuantization(Cache(tmp_path), small().with_attr("odd", [1]), MACHINE)
    odd.start(IMAGES)
    maker = Maker(small())
    for count in (1, 2):
        odd.module((), maker)
        assert maker.count == count and odd.digest == ""
    assert not files_in(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"hello", None])
def test_a_damaged_module_is_made_anew(tmp_path: Path, damage: bytes | None) -> None:
    maker = Maker(small())
    kept(tmp_path).module((), maker)
    (file,) = files_in(tmp_path)
    if damage is None:  # whole, but another result
        np.savez(file.path, json=np.frombuffer(b'{"params": [["x", [[2], "no"]]]}', np.uint8))
    else:
        file.path.write_bytes(damage)
    for _ in range(2):
        assert module_digest(kept(tmp_path).module((), maker)) == module_digest(small())
    assert maker.count == 2


def test_choices(tmp_path: Path) -> None:
    maker = Maker(Choice(variant="best", chosen="best"))
    for _ in range(2):
        assert kept(tmp_path).value("choice", Choice, "best", maker) == maker.value
    assert maker.count == 1
    kept(tmp_path).value("choice", Choice, "other", maker)
    kept(tmp_path).value("other", Choice, "best", maker)
    kept(tmp_path).value("choice", tuple, "best", maker)  # of another type
    assert maker.count == 4


@pytest.fixture(scope="module")
def digits() -> tuple[ImportedModel, Dataset]:
    model = load_model(DIGITS, check=False)
    data = bundled_data(model)
    assert data is not None
    return model, data[1].take(4)


def test_a_pipeline_takes_what_another_made(
    digits: tuple[ImportedModel, Dataset], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, images = digits
    pipelines = [
        Pipeline(model, MACHINE, cache=Cache(folder)) for folder in (None, *[tmp_path] * 2)
    ]
    modules, programs, profiles = [], [], []
    for number, pipeline in enumerate(pipelines):
        if number == 2:  # all of it is there
            for name in ("flow.profile_ranges.profile", "flow.machine_stages.compile_function"):
                monkeypatch.setattr(name, None)
            monkeypatch.setattr(Pipeline, "_made", None)
        profiles.append(pipeline.calibrate(images))
        modules.append(pipeline.quantize("profiled_fused"))
        programs.append([p.to_bytes() for p in pipeline.compile(modules[-1]).programs])
    assert len({module_digest(mod) for mod in modules}) == 1
    assert programs[0] == programs[1] == programs[2]
    for own in profiles[1:]:
        assert list(own) == list(profiles[0])
        for name, profile in profiles[0].items():
            assert (own[name].histogram == profile.histogram).all()
    assert all(p.choices == pipelines[0].choices for p in pipelines)
    assert {file.kind for file in files_in(tmp_path)} == {
        "choices", "modules", "profiles", "programs",
    }  # fmt: skip
    assert pipelines[1].images[0].tolist() == pipelines[2].images[0].tolist()


def test_programs(digits: tuple[ImportedModel, Dataset], tmp_path: Path) -> None:
    model, images = digits
    pipeline = Pipeline(model, MACHINE)
    pipeline.calibrate(images)
    quantized = pipeline.quantize("profiled_fused")
    compiled = pipeline.compile(quantized)
    symbols = [program.symbol for program in compiled.programs]
    cache, maker = Cache(tmp_path), Maker(compiled.programs)

    def get(facts: object, names: list[str]) -> list[bytes]:
        return [p.to_bytes() for p in kept_programs(cache, quantized, facts, names, maker)]

    first = get(1, symbols)
    assert get(1, symbols) == first and maker.count == 1
    get(2, symbols)
    assert maker.count == 2
    get(1, ["other"])
    assert maker.count == 3
    for file in files_in(tmp_path):
        np.savez(file.path, **{"program-0": np.frombuffer(first[0][:-9], np.uint8)})
    assert get(1, symbols) == first and maker.count == 4
    assert get(1, symbols) == first and maker.count == 4
    get(object(), symbols)
    assert maker.count == 5  # facts without a key
    key = compiled_key(quantized, compiled.programs, "fsim")
    assert key == compiled_key(quantized, compiled.programs, "fsim") != ""
    other = replace(compiled.programs[0], symbol="other")
    assert len({key, compiled_key(quantized, compiled.programs, "tsim"),
                compiled_key(quantized, [other], "fsim"),
                compiled_key(pipeline.folded, compiled.programs, "fsim")}) == 4  # fmt: skip
    assert compiled_key(quantized.with_attr("odd", [1]), compiled.programs) == ""
