"""flow.backend on the embedded model: exact, and loud when it is not."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest

from flow import cli
from flow.backend import PipelineBackend, PipelineCompiled
from flow.data.datasets import Dataset, image_folder
from flow.data.models import DIGITS, GAUGES, bundled_data, load_model, preprocessing_of
from flow.deploy import deploy
from flow.frontend.importer import import_model
from flow.options import BEST_VARIANT, MAIN_VARIANTS, UNCALIBRATED, VARIANTS, Engine, Options
from flow.program.asm import assemble
from flow.program.program import Program
from flow.results.data_facts import DataFacts
from flow.results.details.collect import collect
from flow.results.evaluate import prefetch
from flow.results.report import SETUP
from flow.stages import Progress, Stages
from relay_passes.calibration.distill_options import DistillOptions
from relay_passes.host.run import HostModule
from relay_passes.params import TensorProfile
from relay_passes.variants import KEPT, ZERO_SHOT_OF
from scripts.bench_network import ResNet18
from tests.flow.data.test_datasets import write_image
from tests.flow.onnx_models import norm_model, save, tiny_model
from vta_config import VTAConfig
from vta_config.isa import Insn, Memory, Opcode, encode

#: Few images to distill, in few steps.
FEW = DistillOptions(images=8, batch=8, steps=3)


def ignore(done: int, total: int) -> None:
    """Take progress and do nothing."""


@pytest.fixture(scope="module")
def images() -> Dataset:
    parts = bundled_data(load_model(DIGITS))
    assert parts is not None
    return parts[0]


@cache
def profiles() -> dict[str, TensorProfile]:
    """Calibrate once; profiles do not depend on the machine."""
    model = load_model(DIGITS)
    parts = bundled_data(model)
    assert parts is not None
    backend = PipelineBackend(model, VTAConfig.load("default"))
    backend.calibrate(parts[1].take(30), ignore)
    return backend.pipeline.profiles


def compile_for(
    config: VTAConfig, variant: str = "profiled_fused", engine: Engine = "fsim"
) -> PipelineCompiled:
    backend = PipelineBackend(load_model(DIGITS), config, engine=engine)
    backend.pipeline.profiles = profiles()
    return backend.compile(variant)


@pytest.fixture(scope="module")
def compiled(default_config: VTAConfig) -> PipelineCompiled:
    return compile_for(default_config)


# ---- comparing -----------------------------------------------------------------------------------
def test_every_engine_agrees_on_every_tensor(compiled: PipelineCompiled, images: Dataset) -> None:
    some = images.take(20)
    moves: list[tuple[int, int]] = []
    progress: Progress = lambda done, total: moves.append((done, total))  # noqa: E731
    exact = compiled.verify(some, progress)
    assert exact.mismatches == 0, exact.first
    # 21 layers on fsim, fsim in random order, tsim and the oracle, and the executable's logits
    assert exact.images == 20 and exact.tensors == 20 * (4 * 21 + 1)
    assert moves[-1] == (20, 20)


def test_details_of_the_whole_network(compiled: PipelineCompiled) -> None:
    details = collect(compiled.describers())
    assert not details.left_out and details.graph and details.memory and details.histograms
    assert sum(node.place == "vta" for node in details.graph.nodes) == 23  # the pooling by itself
    (memory,) = details.memory
    assert memory.layers == tuple(r.name for r in compiled.model.programs[0].layers)
    # Each layer's tensor is read by a later one, or is the network's result.
    assert all(region.last > region.first for region in memory.regions)
    assert compiled.plan is not None
    assert [h.scale for h in details.histograms.activations[:1]] == [
        compiled.plan.tensors["data"].scale
    ]
    assert len(details.histograms.weights) == 21


@pytest.mark.slow
def test_histograms_are_of_the_tensors_that_became_integers(default_config: VTAConfig) -> None:
    """Cross-layer equalization scales channels: values change, and the scales with them."""
    model = load_model(DIGITS)
    parts = bundled_data(model)
    assert parts is not None
    backend = PipelineBackend(model, default_config)
    backend.calibrate(parts[1].take(8), ignore)
    compiled = backend.compile("per_tensor")
    found = collect(compiled.describers()).histograms
    assert found is not None
    ends = {h.name: (h.high, h.scale[0] * (h.qmax - h.zero_point)) for h in found.activations}
    for name, (high, most) in ends.items():
        assert compiled.profiles[name].hi <= high and most > compiled.profiles[name].hi / 8, name


@pytest.mark.slow
def test_logits_of_200_images(compiled: PipelineCompiled, images: Dataset) -> None:
    host = HostModule(compiled.model.quantized)
    network = compiled.networks()[0]
    for image in prefetch(images.take(200)):
        np.testing.assert_array_equal(np.asarray(network(image)), host(image)[0].ravel())


@pytest.mark.slow
def test_every_preset_is_exact(preset: VTAConfig, images: Dataset) -> None:
    compiled = compile_for(preset)
    layers = len(compiled.model.programs[0].layers)
    assert layers in (21, 22)  # the max-pool joins the convolution before it where it fits
    exact = compiled.verify(images.take(2), ignore)
    assert exact.mismatches == 0, exact.first
    assert exact.tensors == 2 * (4 * layers + 1)


@pytest.mark.slow
@pytest.mark.parametrize("variant", [v for v in MAIN_VARIANTS if v != BEST_VARIANT])
def test_every_variant_is_exact(variant: str, default_config: VTAConfig, images: Dataset) -> None:
    exact = compile_for(default_config, variant).verify(images.take(3), ignore)
    assert exact.mismatches == 0, exact.first


@pytest.mark.slow
@pytest.mark.parametrize("variant", sorted(UNCALIBRATED - ZERO_SHOT_OF.keys() - {*KEPT}))
def test_variants_that_need_no_calibration(variant: str, default_config: VTAConfig) -> None:
    assert PipelineBackend(load_model(DIGITS), default_config).compile(variant).layers


def test_a_wrong_weight_is_found(compiled: PipelineCompiled, images: Dataset) -> None:
    program = compiled.model.programs[0]
    load = next(i for i in program.insns if i.origin.layer == "conv1" and is_weight_load(i))
    at = load["dram_base"] * program.config.wgt_elem_bytes - program.constants_at
    damaged = bytearray(program.constants)
    damaged[at : at + 1024] = bytes(b ^ 0x20 for b in damaged[at : at + 1024])
    model = replace(compiled.model, programs=(replace(program, constants=bytes(damaged)),))
    exact = PipelineCompiled(model=model, network=model.network()).verify(images.take(2), ignore)
    assert exact.mismatches > 0
    assert exact.first.startswith("maxpool0 on fsim, image 0: ")  # what conv1 stores


def is_weight_load(insn: Insn) -> bool:
    return insn.opcode == Opcode.LOAD and insn["memory_type"] == Memory.WGT


@pytest.mark.slow
def test_oracle_is_an_engine(
    compiled: PipelineCompiled, images: Dataset, default_config: VTAConfig
) -> None:
    slow = compile_for(default_config, engine="oracle").networks()[0]
    fast = compiled.networks()[0]
    for image in images.take(3):
        np.testing.assert_array_equal(np.asarray(slow(image)), np.asarray(fast(image)))


# ---- stock Relay ---------------------------------------------------------------------------------
@pytest.mark.slow
def test_stock_relay_is_exact_and_leaves_its_float_ends_to_the_host(
    default_config: VTAConfig, images: Dataset
) -> None:
    stock = compile_for(default_config, "stock_relay")
    exact = stock.verify(images.take(4), ignore)
    assert exact.mismatches == 0, exact.first
    layers = [record.name for record in stock.model.programs[0].layers]
    assert layers[0] == "layer1.0.conv1" and len(layers) == 20  # without conv1, with the sum
    on_host = [f.operator for f in stock.placement.fallbacks if f.operator != "permute_dims"]
    assert on_host[:3] == ["nn.conv2d", "nn.relu", "nn.max_pool2d"] and on_host[-1] == "matmul"
    assert stock.placement.programs == 1 and 0 < stock.placement.vta_macs < stock.placement.macs
    assert stock.latency is not None and [x.name for x in stock.latency.layers] == layers


@pytest.mark.slow
def test_stock_relay_on_imagenet_images(shared_data: Path, default_config: VTAConfig) -> None:
    model = import_model(shared_data / "data" / "models" / "pqf_resnet18.onnx.xz")
    data = image_folder(
        shared_data / "data" / "imagenet_eval", preprocessing_of(model), classes=model.classes
    ).take(3)
    stock = PipelineBackend(model, default_config).compile("stock_relay")
    exact = stock.verify(data, ignore)
    assert exact.mismatches == 0, exact.first


# ---- operations ----------------------------------------------------------------------------------
@pytest.mark.slow
def test_gemm_operations_of_the_body_of_resnet18(default_config: VTAConfig, tmp_path: Path) -> None:
    onnx.save(ResNet18().model(), tmp_path / "resnet18.onnx")
    backend = PipelineBackend(import_model(tmp_path / "resnet18.onnx"), default_config)
    layers = {x.name: x for x in backend.compile("single_scale").layers}
    body = [x.counters for x in layers.values() if "conv2d" in x.kind and x.name != "conv1"]
    assert len(body) == 19
    # Blocks times taps in the picture: of 3 · 56 taps of rows, for instance, two are outside.
    stages = ((4, 166, 0, 56, 4), (8, 82, 83, 28, 3), (16, 40, 41, 14, 3), (32, 19, 20, 7, 3))
    want = sum(
        n * n * full * full * rows + n // 2 * n * (first * first + (first > 0) * size * size)
        for n, full, first, size, rows in stages
    )
    assert want == 6_108_064  # of 6,623,232 with the taps outside
    assert sum(counters["gemm_conv_ops"] for counters in body) == want
    whole = sum(counters["gemm_ops"] for counters in body)
    rest = sum(counters[f"gemm_{x}_ops"] for counters in body for x in ("bias", "residual"))
    assert whole == want + rest and rest > 0
    weights = sum(counters["wgt_bytes"] for counters in body)
    assert weights <= 1.2 * 11_157_504  # bytes of the convolutions 2 to 20


# ---- the main job --------------------------------------------------------------------------------
@pytest.mark.slow
def test_deploy_the_embedded_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is asserted needs no more images to learn from.
    monkeypatch.setattr("flow.pipeline.LEARNING_IMAGES", 24)
    monkeypatch.setattr("flow.candidates.JUDGING_IMAGES", 6)
    options = Options(limit=200, exact_images=2, cache=tmp_path, distill=FEW)
    report, last = deploy(options, Stages())
    by_name = {m.name: m for m in report.variants}
    if importlib.util.find_spec("torch") is None:
        (skipped,) = report.skipped
        assert skipped.variant == "best_zero_shot" and "must have PyTorch" in skipped.reason
    else:
        assert list(by_name) == ["float32", *VARIANTS]
    assert report.exact is not None and report.mismatches == 0
    assert all(p.exact is not None and p.exact.tensors > 0 for p in report.programs)
    errors = {p.variant: p.requantization_error for p in report.programs}
    assert max(e for v, e in errors.items() if v != "dyadic") < 1e-6 and errors["dyadic"] < 1e-2
    fused, profiled, reference = (
        by_name["profiled_fused"], by_name["profiled"], by_name["float32"],
    )  # fmt: skip
    assert reference.top1 is not None and reference.top1 >= 0.97
    assert fused.top1 is not None and fused.top1 >= reference.top1 - 0.01
    assert fused.agreement >= 0.98
    assert fused.sqnr_db is not None and profiled.sqnr_db is not None
    assert fused.sqnr_db > profiled.sqnr_db and fused.sqnr_db > 25
    assert report.placement is not None and report.placement.fallbacks == ()
    assert report.placement.vta_share == 1 and report.placement.programs == 1
    assert [layer.name for layer in report.layers][:3] == [SETUP, "conv1", "layer1.0.conv1"]
    assert sum(layer.kind.split("+").count("conv2d") for layer in report.layers) == 20
    assert report.totals()["wgt_bytes"] > 250_000  # without taps that no output reads
    assert json.dumps(report.to_json(), allow_nan=False)
    assert last.networks()


@pytest.mark.slow
def test_quantization_costs_accuracy_on_the_gauges(tmp_path: Path) -> None:
    """What the demo shows: one scale costs most, per-tensor scales win it back, best the most."""
    names = ("single_scale", "profiled", "best")
    options = Options(model=GAUGES, limit=600, exact_images=1, cache=tmp_path, variants=names)
    report, _ = deploy(options, Stages())
    found = {m.name: m for m in report.variants}
    top1 = {name: m.top1 for name, m in found.items() if m.top1 is not None}
    margin = {name: m.top1_change_margin for name, m in found.items() if m.top1_change_margin}
    assert report.mismatches == 0 and report.deployed == "best" and top1["float32"] > 0.8
    assert top1["single_scale"] + margin["single_scale"] < top1["float32"] - 0.05
    assert top1["single_scale"] + 0.05 < top1["profiled"] < top1["best"] + margin["best"]
    assert top1["best"] > top1["float32"] - 0.05
    assert (found["best"].sqnr_db or 0) > (found["profiled"].sqnr_db or 0) + 3


@pytest.mark.slow
def test_calibration_without_data(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    names = ("profiled_fused", "best_zero_shot")
    options = Options(limit=100, exact_images=1, cache=tmp_path, variants=names, distill=FEW)
    report, _ = deploy(options, Stages(), folder=tmp_path)
    facts = {p.variant: p for p in report.programs}
    assert facts["best_zero_shot"].calibration == DataFacts(
        name=f"distilled from {DIGITS}", images=8
    )
    assert facts["profiled_fused"].calibration == report.calibration
    assert report.mismatches == 0


@pytest.mark.slow
def test_a_folder_of_distilled_images_is_the_same_calibration(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    for index in range(4):
        write_image(tmp_path / "images" / f"{index}.png", 60 * index)
    options = Options(
        model=str(save(norm_model(), tmp_path / "normed.onnx")),
        images=tmp_path / "images",
        exact_images=1,
        cache=tmp_path,
        distill=FEW,
    )
    row, _ = deploy(replace(options, variants=("best_zero_shot",)), Stages())
    (folder,) = (tmp_path / "distilled").iterdir()
    whole, _ = deploy(replace(options, variants=("best",), zero_shot=True), Stages())
    read, _ = deploy(replace(options, variants=("best",), calibration=folder), Stages())
    assert whole.calibration == row.programs[0].calibration and row.calibration is None
    assert read.calibration == DataFacts(name=folder.name, images=8)
    assert read.variants == whole.variants and read.mismatches == 0
    assert replace(row.variants[1], name="best") == whole.variants[1]


@pytest.mark.slow
def test_own_model_from_file_to_disassembly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tiny_model(), tmp_path / "mine.onnx")
    for index in range(4):
        write_image(tmp_path / "images" / f"{index}.png", 60 * index)
    model = ["--model", str(tmp_path / "mine.onnx"), "--calibration", str(tmp_path / "images")]
    assert cli.main(["compile", *model, "--config", "small", "--output", str(tmp_path)]) == 0
    program = Program.load(tmp_path / "mine.vta")
    assert program.config.name == VTAConfig.load("small").name
    capsys.readouterr()
    assert cli.main(["disasm", str(tmp_path / "mine.vta")]) == 0
    text = capsys.readouterr().out
    again = assemble(text, program.config)
    encoded = [encode(insn, program.config) for insn in again]
    assert encoded == [encode(insn, program.config) for insn in program.insns]
    assert cli.main(["verify", *model, "--images", str(tmp_path / "images")]) == 0
    assert "tensors of 4 images compared, all equal" in capsys.readouterr().out
    assert cli.main(["run", *model, str(tmp_path / "images" / "0.png"), "--top", "5"]) == 0
    assert "0.png" in capsys.readouterr().out


def test_damaged_program_file_is_refused(
    compiled: PipelineCompiled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled.save(tmp_path / "p.vta")
    data = bytearray((tmp_path / "p.vta").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "p.vta").write_bytes(data)
    assert cli.main(["disasm", str(tmp_path / "p.vta")]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and "p.vta" in shown.err and shown.err.count("\n") == 1


def test_imagenet_model_has_its_names(shared_data: Path) -> None:
    model = import_model(shared_data / "data" / "models" / "pqf_resnet18.onnx.xz")
    sha256 = "651fb16150370d9c01cb4ce043008c0868b38f3c1bfb88937d64acdb578a58d1"
    assert model.sha256 == sha256 and model.input_shape == (1, 3, 224, 224)
    assert len(model.conv_names) == 20 and model.conv_names[7] == "layer2.0.downsample.0"


def test_driver_beside_us_needs_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lib.so").write_text("no library")
    monkeypatch.chdir(tmp_path)
    args = ["--engine", "driver", "--driver", "lib.so", "--limit", "1", "--variant", "single_scale"]
    assert cli.main(["evaluate", *args]) == 2
    assert f"{tmp_path / 'lib.so'}: must be a loadable shared library" in capsys.readouterr().err


def test_driver_that_is_no_library(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lib.so").write_text("x")
    args = ["--engine", "driver", "--driver", str(tmp_path / "lib.so"), "--limit", "5"]
    assert cli.main(["evaluate", "--variant", "profiled_fused", *args]) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1
    assert "lib.so: must be a loadable shared library, got " in shown.err


@pytest.mark.slow
def test_latency_chooses_another_form(tmp_path: Path) -> None:
    elements = []
    for objective in ("balanced", "latency"):
        options = ["--variant", "single_scale", "--config", "ultra96", "--objective", objective]
        assert cli.main(["compile", *options, "--output", str(tmp_path)]) == 0
        port = Program.load(tmp_path / "digits-resnet18.vta").inputs[0]
        assert port.form is not None
        elements.append(np.prod(port.form.dram_shape(port.shape)))
    assert elements[1] > elements[0]


@pytest.mark.slow
def test_searched_schedules_are_kept(tmp_path: Path) -> None:
    cache, config = tmp_path / "schedules.json", VTAConfig.load("small")
    first = PipelineBackend(load_model(DIGITS), config, schedules=cache)
    first.pipeline.compile(first.pipeline.quantize("single_scale"))
    kept = cache.read_bytes()
    again = PipelineBackend(load_model(DIGITS), config, schedules=cache)
    programs = [
        backend.pipeline.compile(backend.pipeline.quantize("single_scale")).programs[0].to_bytes()
        for backend in (first, again)
    ]
    assert programs[0] == programs[1] and cache.read_bytes() == kept
