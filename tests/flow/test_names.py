"""Any text can be a name: a network with hostile names gives the programs of a plain one."""

from __future__ import annotations

import io
import json
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import example, given, settings
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from flow.backend import PipelineCompiled
from flow.compiled_model import CompiledModel
from flow.data.datasets import random_images
from flow.frontend.importer import import_model
from flow.pipeline import Pipeline
from flow.results.report import LayerCounters, Report, latency_table, layers_table
from relay_passes.rounding.nearest import NearestRounder
from relay_passes.variants import RECIPES
from tests.flow.onnx_models import save, tiny_model
from tests.strategies import layer_names
from vta_config import VTAConfig
from vta_config.errors import UnsupportedModelError

CONFIG = VTAConfig.load("default")
PLAIN = ["first", "second", "third", "skip", "last"]
VARIANTS = ("profiled_fused", "per_tensor_unfused", "dyadic", "stock_relay")


def network(names: list[str]) -> onnx.ModelProto:
    """Build a residual network of four convolutions, one without a bias, and a dense layer."""
    rng = np.random.default_rng(0)
    first, second, third, skip, last = (f"{name}.weight" for name in names)
    shapes = ((16, 3, 3, 3), (16, 16, 3, 3), (16, 16, 3, 3), (16, 16, 1, 1), (5, 16))
    tensors = [
        numpy_helper.from_array(rng.normal(scale=0.2, size=s).astype(np.float32), weight)
        for s, weight in zip(shapes, (first, second, third, skip, last), strict=True)
    ]
    for n, count in enumerate((16, 16, 16, 16, 5)):
        bias = rng.normal(scale=0.1, size=count).astype(np.float32)
        tensors.append(numpy_helper.from_array(bias, f"bias {n}"))
    nodes = [
        helper.make_node("Conv", ["x", first, "bias 0"], ["a"], pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", second, "bias 1"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Conv", ["d", third, "bias 2"], ["e"], pads=[1] * 4),
        helper.make_node("Conv", ["b", skip], ["f"]),
        helper.make_node("Add", ["e", "f"], ["g"]),
        helper.make_node("Relu", ["g"], ["h"]),
        helper.make_node("GlobalAveragePool", ["h"], ["i"]),
        helper.make_node("Flatten", ["i"], ["j"]),
        helper.make_node("Gemm", ["j", last, "bias 4"], ["k"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "named",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("k", TensorProto.FLOAT, [1, 5])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def pipeline(proto: onnx.ModelProto, folder: Path) -> Pipeline:
    result = Pipeline(import_model(save(proto, folder / "m.onnx"), name="m"), CONFIG)
    rng = np.random.default_rng(1)
    result.calibrate([rng.normal(size=(1, 3, 8, 8)).astype(np.float32) for _ in range(2)])
    return result


def facts(compiled: CompiledModel) -> list[Any]:
    """Return all that a model's programs are and cost, but for names."""
    counters = compiled.counters_by_layer()
    records = [record for program in compiled.programs for record in program.layers]
    layers = [layer for sim in compiled.timed for layer in sim.result.layers]
    return [
        [(p.insn_bytes, p.constants, p.arena_bytes) for p in compiled.programs],
        [(r.kind, r.output.address, r.last_store, counters[r.name]) for r in records],
        [(layer.cycles, layer.gemm_steps, layer.bound) for layer in layers],
        counters[None],
        len(counters) == len(records) + 1,
        [(f.operator, f.reason) for f in compiled.host.fallbacks],
    ]


@cache
def plain() -> Pipeline:
    with tempfile.TemporaryDirectory() as folder:
        return pipeline(network(PLAIN), Path(folder))


def form(pipeline: Pipeline, variant: str) -> Any:
    """Return the integers of a variant as it stands, its weights rounded to nearest.

    Choosing and learning take most of the time; `test_names_do_not_choose` does both.
    """
    if variant == "stock_relay":
        return pipeline.quantize(variant)
    options = RECIPES[variant].options
    return pipeline.quantize(replace(options, rounder=NearestRounder(), correct_bias=False))


@cache
def plain_models() -> dict[str, CompiledModel]:
    return {v: plain().compile(form(plain(), v)) for v in VARIANTS}


@cache
def plain_facts() -> dict[str, list[Any]]:
    return {variant: facts(model) for variant, model in plain_models().items()}


@cache
def plain_names() -> dict[str, list[str]]:
    """Return the layers of each variant; a convolution that another takes in is none."""
    return {v: [r.name for p in m.programs for r in p.layers] for v, m in plain_models().items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("names")


@pytest.mark.slow
@settings(max_examples=4, deadline=None)
@given(layer_names(len(PLAIN)))
@example(["a", "a.acc", "a.sum", "a.wide", "a.relu"])
@example(["a.acc", "a", "a.acc.acc", "a.q", "a.dq"])
@example(["lv1", "lv", "gv", "x", "lv3"])
@example(["x.q", "x", "m", "setup", "finish"])
@example([" tile (1,2)c1", "wait for a", "a uops", "", "a tile (0, 0, 0) bias"])
@example(["\x1b[31m", "two\nlines", "[/b]", "$x$", "x" * 10_000])
def test_names_change_nothing_but_names(folder: Path, names: list[str]) -> None:
    named = pipeline(network(names), folder)
    for variant, want in plain_facts().items():
        compiled = named.compile(form(named, variant))
        assert facts(compiled) == want, variant
        assert compiled.executable is not None
        told = [r.name for p in compiled.programs for r in p.layers]
        assert len(set(told)) == len(told)
        if variant != "stock_relay":  # which calls a layer after its bias's sum
            given = dict(zip(PLAIN, names, strict=True))
            expected = {given[n] for n in plain_names()[variant] if n in given}
            assert set(told) >= expected - {"", "x"}  # the input is called x


@pytest.mark.slow
def test_names_do_not_choose(folder: Path) -> None:
    names = ["a.acc", "a", "a.acc.acc", "two\nlines", "\x1b[31m"]
    both = plain(), pipeline(network(names), folder)
    first, second = (facts(p.compile(p.quantize("dyadic"))) for p in both)
    assert first == second
    first, second = (p.choices["dyadic"] for p in both)
    assert first.chosen == second.chosen and first.candidates == second.candidates


def test_engines_agree_on_hostile_names(folder: Path) -> None:
    named = pipeline(network(["a", "a.acc", "a.sum", "two\nlines", "\x1b[1m"]), folder)
    model = named.compile(named.quantize("profiled_fused"))
    compiled = PipelineCompiled(model=model, network=model.network())
    exact = compiled.verify(random_images((1, 3, 8, 8), 2), lambda done, total: None)
    assert exact.mismatches == 0 and exact.tensors == 2 * (4 * len(compiled.layers[1:]) + 1)


def test_tables_show_names_as_they_are(folder: Path) -> None:
    names = ["[bold]a", "[/nothing]", "\x1b[31mred", "two\nlines", "x" * 10_000]
    named = pipeline(network(names), folder)
    model = named.compile(named.quantize("profiled_fused"))
    compiled = PipelineCompiled(model=model, network=model.network())
    report = Report(
        model_name="m", model_sha256="", machine=CONFIG, engine="fsim", layers=compiled.layers
    )
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(layers_table(report))
    console.print(latency_table(report))
    text = console.export_text()
    for shown in ("[bold]a", "[/nothing]", "\\x1b[31mred", "two\\nlines", "xx…xx"):
        assert shown in text
    assert "\x1b" not in text
    paths = compiled.draw(folder / "pictures")
    assert all(path.stat().st_size for path in paths)
    events = json.loads(paths[0].read_text(encoding="utf-8"))["traceEvents"]
    assert {"two\\nlines", "\\x1b[31mred"} <= {event["name"] for event in events}


def test_a_layer_called_setup_is_no_setup() -> None:
    rows = (
        LayerCounters(name="setup", kind="setup", counters={"gemm_bias_ops": 1}),
        LayerCounters(name="setup", kind="conv2d", counters={"gemm_bias_ops": 2}),
    )
    report = Report(model_name="", model_sha256="", machine=CONFIG, engine="", layers=rows)
    assert report.totals()["gemm_bias_ops"] == 3


# ---- importing -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("weights", "names"),
    [
        (("a.weight", "a.weight"), ("a", "a#2")),
        (("a#2.weight", "a.weight", "a.kernel", "a.w"), ("a#2", "a", "a#3", "a#4")),
        (("a.weight", "a.kernel", "a#2.weight"), ("a", "a#2", "a#2#2")),
    ],
)
def test_layers_get_names_of_their_own(
    folder: Path, weights: tuple[str, ...], names: tuple[str, ...]
) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        w: numpy_helper.from_array(rng.normal(size=(3, 3, 1, 1)).astype(np.float32), w)
        for w in weights
    }
    nodes = [
        helper.make_node("Conv", [f"t{n}", weight], [f"t{n + 1}"])
        for n, weight in enumerate(weights)
    ]
    nodes += [
        helper.make_node("GlobalAveragePool", [f"t{len(weights)}"], ["p"]),
        helper.make_node("Flatten", ["p"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("t0", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        list(tensors.values()),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    assert import_model(save(model, folder / "own.onnx")).conv_names == names


@pytest.mark.parametrize("name", [b"stem.weight", b"conv_node", b"logits", b"GlobalAveragePool"])
def test_names_that_are_no_text(folder: Path, name: bytes) -> None:
    data = tiny_model().SerializeToString()
    assert name in data
    path = folder / "bytes.onnx"
    path.write_bytes(data.replace(name, name[:-2] + b"\xff\x1b"))
    with pytest.raises(UnsupportedModelError) as error:
        import_model(path)
    shown = f"{name[:-2] + bytes((0xFF, 0x1B))!r}"
    assert f"(a name that is not UTF-8, {shown})" in str(error.value)


def test_remarks_may_be_any_bytes(folder: Path) -> None:
    model = tiny_model()
    model.doc_string = "remark"
    path = folder / "remark.onnx"
    path.write_bytes(model.SerializeToString().replace(b"remark", b"rem\xff\xffk"))
    assert import_model(path).conv_names == ("stem",)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux")
def test_names_of_files_that_are_no_text(folder: Path) -> None:
    path = save(tiny_model(), folder / "\udcff大.onnx")
    assert import_model(path).name == "\\xff大"
