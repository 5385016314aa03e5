"""The search finds schedules no slower than the model's, the same every time, and keeps them."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from flow.compiler import search
from flow.compiler.cost import Tiling
from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.compiler.normal_form import NormalLayer
from flow.compiler.schedule import Schedule
from flow.compiler.shapes import Objective
from flow.compiler.tiling import CYCLES_TOLERANCE
from flow.parallel.run import run_all
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import time_insns
from relay_passes.partition.layers import PostOp, TensorSpec
from tests.flow.compiler.networks import conv, residual_network, subgraph, weights
from tests.relay_passes.layer_oracle import run_subgraph
from vta_config.errors import CapacityError
from vta_config.hardware import VTAConfig
from vta_config.isa import Memory, Opcode
from vta_config.portable import uop_room


def test_searched_schedules_are_no_slower_and_right() -> None:
    config = VTAConfig.load("block32")
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 256, 14, 14), dtype="int8")
    graph = subgraph((conv(rng, "conv", x, 256, (3, 3), padding=(1, 1, 1, 1)),), x)
    cycles = []
    for found in (None, search.search(graph, config)):
        program = make_program(graph, lower(graph, config, found), config)
        cycles.append(time_insns(config, program.insn_bytes)[0])
    # Of tilings that are about as fast, it takes the one that loads the fewest bytes.
    assert cycles[1] <= cycles[0] * (1 + CYCLES_TOLERANCE)
    image = weights(rng, *x.shape)
    (output,) = ProgramSim(program).run([image]).outputs
    np.testing.assert_array_equal(output, run_subgraph(graph, [image])["conv"])


@pytest.mark.slow
def test_layers_are_searched_by_several_workers(tmp_path: Path) -> None:
    config = VTAConfig.load("small")
    graph = residual_network(np.random.default_rng(0), size=16)
    counts: list[int] = []

    def each(function: Any, items: Any) -> Any:
        counts.append(len(items))
        return run_all(function, items, jobs=2)

    caches = [tmp_path / "one.json", tmp_path / "two.json"]
    one = search.search(graph, config, cache=caches[0])
    assert search.search(graph, config, cache=caches[1], each=each) == one
    assert caches[0].read_bytes() == caches[1].read_bytes() and counts[0] > 1
    assert search.search(graph, config, cache=caches[1], each=each) == one and counts[1] == 0


def test_results_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = VTAConfig.load("small")
    graph = residual_network(np.random.default_rng(0), size=16)
    cache = tmp_path / "new" / "schedules.json"
    seen: list[tuple[int, int]] = []
    first = search.search(graph, config, cache=cache, progress=lambda *at: seen.append(at))
    assert seen[-1] == (len(first.tilings), len(first.tilings)) and cache.is_file()
    assert search.search(graph, config) == first

    def never(*_: object) -> int:
        raise AssertionError("timed again")

    monkeypatch.setattr(search, "_cycles", never)
    assert search.search(graph, config, cache=cache) == first
    with pytest.raises(AssertionError, match="timed again"):
        search.search(graph, VTAConfig.load("default"), cache=cache)


def test_a_damaged_cache_is_searched_again(tmp_path: Path) -> None:
    cache = tmp_path / "schedules.json"
    cache.write_text("{ not json", encoding="utf-8")
    graph = residual_network(np.random.default_rng(0), size=16)
    config = VTAConfig.load("small")
    assert search.search(graph, config, cache=cache) == search.search(graph, config)


def test_two_searches_share_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Another run, on another network, ends while this one is between two layers.
    config = VTAConfig.load("small")
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 16, 8, 8), dtype="int8")
    other = subgraph((conv(rng, "conv", x, 32, (1, 1)),), x)
    cache = tmp_path / "schedules.json"
    graph = residual_network(np.random.default_rng(0), size=16)
    done: list[int] = []

    def between(count: int, total: int) -> None:
        if not done:
            search.search(other, config, cache=cache)
        done.append(count)

    search.search(graph, config, cache=cache, progress=between)
    assert len(done) > 1

    def never(*_: object) -> int:
        raise AssertionError("timed again")

    monkeypatch.setattr(search, "_cycles", never)
    search.search(graph, config, cache=cache)
    search.search(other, config, cache=cache)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["schedules.json", "schedules.json.lock"]


def test_a_search_that_is_stopped_keeps_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, cache = VTAConfig.load("small"), tmp_path / "schedules.json"
    graph = residual_network(np.random.default_rng(0), size=16)

    def stop(count: int, total: int) -> None:
        if count == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search.search(graph, config, cache=cache, progress=stop)
    best, timed = search._best, []

    def counted(normal: NormalLayer, **rest: Any) -> Tiling:
        timed.append(normal.layer.name)
        return best(normal, **rest)

    monkeypatch.setattr(search, "_best", counted)
    found = search.search(graph, config, cache=cache)
    names = list(found.tilings)
    assert names[0] not in timed and names[1] not in timed and len(timed) >= 1


def test_cache_that_cannot_be_written(tmp_path: Path) -> None:
    config, graph = VTAConfig.load("small"), residual_network(np.random.default_rng(0), size=16)
    (tmp_path / "file").write_text("x")
    found = search.search(graph, config, cache=tmp_path / "file" / "schedules.json")
    assert found == search.search(graph, config)


def _write(cache: Path, entries: object) -> None:
    cache.write_text(json.dumps(entries), encoding="utf-8")


NONSENSE = (
    None,
    [],
    7,
    "x",
    {},
    {"oc": 1},
    dict.fromkeys(("oc", "oh", "ow", "ic", "oc_w"), -1) | {"oc_outer": True},
    dict.fromkeys(("oc", "oh", "ow", "ic", "oc_w"), 0) | {"oc_outer": True},
    dict.fromkeys(("oc", "oh", "ow", "ic", "oc_w"), 1 << 70) | {"oc_outer": True},
    dict.fromkeys(("oc", "oh", "ow", "ic", "oc_w"), 1.0) | {"oc_outer": True},
    dict.fromkeys(("oc", "oh", "ow", "ic", "oc_w"), True) | {"oc_outer": True},
    dict.fromkeys(("oc", "oh", "ow", "ic", "oc_w"), 1) | {"oc_outer": 1},
    dict.fromkeys(("oc", "oh", "ow", "ic", "oc_w"), float("nan")) | {"oc_outer": True},
    dict.fromkeys(("oc", "oh", "ow", "ic", "oc_w", "more"), 1) | {"oc_outer": True},
    dict.fromkeys(("patch", "stride", "padding", "extent"), (1, 1)),
    dict.fromkeys(("patch", "stride", "padding", "extent"), (1 << 40, 1 << 40)),
    dict.fromkeys(("patch", "stride", "padding", "extent"), (-1, -1)),
    dict.fromkeys(("patch", "stride", "padding", "extent"), (1.0, 1.0)),
    dict.fromkeys(("patch", "stride", "padding", "extent"), (1, 1, 1)),
    dict.fromkeys(("patch", "stride", "padding", "extent"), "11"),
    *(
        dict.fromkeys(("patch", "stride", "padding", "extent"), (1, 1)) | {"fill": fill}
        for fill in (True, 1.0, "1", None, 1 << 70)
    ),
)


def test_nonsense_in_a_cache_is_searched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, config = tmp_path / "schedules.json", VTAConfig.load("small")
    x = TensorSpec(name="x", shape=(1, 3, 10, 10), dtype="int8")
    graph = subgraph((conv(np.random.default_rng(0), "conv", x, 20, (3, 3)),), x)
    right = search.search(graph, config, cache=cache)
    good = json.loads(cache.read_text(encoding="utf-8"))
    times = iter(range(10**9, 0, -1))  # whatever is timed again looks better than before
    monkeypatch.setattr(search, "_cycles", lambda *_: next(times))
    assert search.search(graph, config, cache=cache) == right
    monkeypatch.undo()
    for kind in ("tilings", "forms"):
        for wrong in NONSENSE:
            if kind == "forms" and wrong is None:
                continue  # the plain form
            _write(cache, good | {kind: dict.fromkeys(good[kind], wrong)})
            assert search.search(graph, config, cache=cache) == right, wrong
        for wrong in (None, [], 7, "x", [[]]):
            _write(cache, good | {kind: wrong})
            assert search.search(graph, config, cache=cache) == right, wrong


def test_what_is_no_cache_is_not_read(tmp_path: Path) -> None:
    config, cache = VTAConfig.load("small"), tmp_path / "schedules.json"
    x = TensorSpec(name="x", shape=(1, 3, 6, 6), dtype="int8")
    graph = subgraph((conv(np.random.default_rng(0), "conv", x, 8, (1, 1)),), x)
    right = search.search(graph, config)
    for text in (b"[" * 1_000_000, b'{"tilings":' * 100_000, b"\xff", b"9" * 5000, b"null", b""):
        cache.write_bytes(text)
        assert search.search(graph, config, cache=cache) == right
    with cache.open("wb") as file:
        file.truncate(1 << 40)
    assert search.search(graph, config, cache=cache) == right
    assert cache.stat().st_size < 1 << 20  # written anew
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert search._read(pipe) == search._Known()
    assert search._read(tmp_path) == search._Known()


def test_what_does_not_fit_is_named() -> None:
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 16, 40, 40), dtype="int8")
    graph = subgraph((conv(rng, "huge", x, 16, (20, 20)),), x)
    with pytest.raises(CapacityError, match="huge: its smallest tile must fit 255 inp"):
        search.search(graph, VTAConfig.load("small"))


def test_forms_are_timed_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = VTAConfig.load("default")
    graph = residual_network(np.random.default_rng(0))
    timed = []

    def cycles(normal: NormalLayer, tiling: Tiling | None, config: VTAConfig) -> int:
        timed.append(normal.form)
        return 1 if normal.form is not None and normal.form.patch == (7, 7) else 10**9

    monkeypatch.setattr(search, "_cycles", cycles)
    cache = tmp_path / "schedules.json"
    first = search.search(graph, config, cache=cache)
    assert first.forms["x"].patch == (7, 7) and len(set(timed)) > 2
    timed.clear()
    assert search.search(graph, config, cache=cache) == first and not timed
    monkeypatch.undo()
    again = search.search(graph, config)
    assert again.forms == lower(graph, config, again).forms != {}


@pytest.mark.parametrize("pointwise", [False, True])
def test_micro_ops_of_small_pictures_are_loaded_once(pointwise: bool) -> None:
    # 7² × 512: a chunk's micro-ops are needed again where chunks come to the same places.
    config = VTAConfig.load("default")
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 512, 7, 7), dtype="int8")
    kernel, pad = ((1, 1), 0) if pointwise else ((3, 3), 1)
    graph = subgraph((conv(rng, "conv", x, 512, kernel, padding=(pad,) * 4),), x)
    loads = [
        insn.values["x_size"]
        for insn in lower(graph, config).insns
        if insn.opcode is Opcode.LOAD and insn.values["memory_type"] == Memory.UOP
    ]
    most = uop_room(config.uop_depth)
    assert sum(loads) <= (most if pointwise else 5 * most)


@pytest.mark.parametrize("searched", [False, True])
def test_latency_may_cost_bytes(searched: bool) -> None:
    config = VTAConfig.load("default")
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 3, 64, 64), dtype="int8")
    conv1 = conv(rng, "conv", x, 64, (7, 7), stride=(2, 2), padding=(3, 3, 3, 3))
    graph = subgraph((conv1,), x)
    image = weights(rng, *x.shape)
    cycles, positions = [], []
    for objective in get_args(Objective):
        found = (
            search.search(graph, config, objective=objective)
            if searched
            else Schedule(objective=objective)
        )
        lowered = lower(graph, config, found)
        program = make_program(graph, lowered, config)
        (output,) = ProgramSim(program).run([image]).outputs
        np.testing.assert_array_equal(output, run_subgraph(graph, [image])["conv"])
        cycles.append(time_insns(config, program.insn_bytes)[0])
        patch, extent = lowered.forms["x"].patch, lowered.forms["x"].extent
        positions.append(np.prod(patch) * np.prod(extent))
    assert cycles[1] < cycles[0] and positions[1] > positions[0]


def test_load_runs_no_further_ahead_than_tokens_count() -> None:
    config = VTAConfig.load("default")
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 16, 20, 20), dtype="int8")
    steps = (PostOp(op="shr", value=15),)
    graph = subgraph((conv(rng, "conv", x, 16, (1, 1), post_ops=steps),), x)
    point = Tiling(oc=1, oh=1, ow=1, ic=1, oc_w=1, oc_outer=False)
    lowered = lower(graph, config, Schedule(tilings={"conv": point}, forms={}))
    ProgramSim(make_program(graph, lowered, config))  # checks that at most 255 are outstanding


def test_borders_are_searched_with(tmp_path: Path) -> None:
    """Forms of an input hold the number outside of the image, and are kept with it."""
    config, cache = VTAConfig.load("default"), tmp_path / "schedules.json"
    rng = np.random.default_rng(0)
    x = TensorSpec(name="x", shape=(1, 3, 9, 9), dtype="int8")
    window = {"padding": (1, 1, 1, 1), "pad_value": -128}
    first = conv(rng, "first", x, 16, (3, 3), **window)
    graph = subgraph((first, conv(rng, "second", first, 16, (3, 3), **window)), x)
    found = search.search(graph, config, cache=cache)
    assert found.forms["x"].fill == -128
    again = search.search(graph, config, cache=cache)
    assert again == found == search.search(graph, config)
    image = weights(rng, *x.shape)
    program = make_program(graph, lower(graph, config, found), config)
    (output,) = ProgramSim(program).run([image]).outputs
    np.testing.assert_array_equal(output, run_subgraph(graph, [image])["second"])
    # Another number outside of the same layer is another form.
    layers = tuple(replace(layer, pad_value=-8) for layer in graph.layers)
    other = search.search(replace(graph, layers=layers), config, cache=cache)
    assert other.forms["x"] == replace(found.forms["x"], fill=-8)
