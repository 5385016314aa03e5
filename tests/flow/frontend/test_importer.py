"""flow.frontend.importer: what it reads, the names it restores, and what it refuses."""

from __future__ import annotations

import hashlib
import lzma
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from onnx import TensorProto, helper
from tvm import relax

from flow.data.models import DIGITS_ONNX
from flow.frontend.importer import _name_from_scope, import_model
from flow.frontend.onnx_session import OnnxSession
from flow.results.evaluate import OnnxRuntime
from relay_passes.host.run import HostModule
from tests.flow.onnx_models import save, tiny_model
from vta_config.errors import UnsupportedModelError


def variable_names(mod: tvm.IRModule) -> list[str]:
    return [binding.var.name for binding in mod["main"].body.blocks[0].bindings]


def test_reads_plain_and_packed_files(tmp_path: Path) -> None:
    data = tiny_model().SerializeToString()
    (tmp_path / "m.onnx").write_bytes(data)
    (tmp_path / "m.onnx.xz").write_bytes(lzma.compress(data))
    plain, packed = import_model(tmp_path / "m.onnx"), import_model(tmp_path / "m.onnx.xz")
    assert plain.sha256 == packed.sha256 == hashlib.sha256(data).hexdigest()
    assert plain.name == packed.name == "m"
    assert (
        plain.input_shape == (1, 3, 8, 8) and plain.classes == 5 and plain.inputs[0].name == "data"
    )
    assert plain.conv_names == ("stem",) and plain.dense_names == ("head",)
    tvm.ir.assert_structural_equal(plain.mod, packed.mod)


def test_layers_keep_their_names_in_relax() -> None:
    model = import_model(DIGITS_ONNX)
    names = variable_names(model.mod)
    assert len(model.conv_names) == 20 and model.dense_names == ("fc",)
    assert model.conv_names[:2] == ("conv1", "layer1.0.conv1")
    assert "layer2.0.downsample.0" in model.conv_names
    assert [n for n in names if n in set(model.conv_names)] == list(model.conv_names)
    assert "fc" in names


def test_relax_computes_what_onnx_runtime_does(tmp_path: Path) -> None:
    model = import_model(save(tiny_model(shape=(4, 3, 8, 8)), tmp_path / "m.onnx"))
    image = np.random.default_rng(0).normal(size=model.input_shape).astype(np.float32)
    vm = relax.VirtualMachine(tvm.compile(model.mod, target="llvm"), tvm.cpu())
    ours = vm["main"](tvm.runtime.tensor(image)).numpy().reshape(-1)
    np.testing.assert_allclose(ours, OnnxRuntime(model.proto)(image), rtol=1e-4, atol=1e-5)


def test_old_files_that_list_weights_as_inputs(tmp_path: Path) -> None:
    old = tiny_model(opset=8, weights_as_inputs=True)
    model = import_model(save(old, tmp_path / "old.onnx"))
    assert model.inputs[0].name == "data" and len(model.mod["main"].params) == 1
    assert [value.name for value in model.proto.graph.input] == ["data"]
    assert OnnxRuntime(model.proto)(np.zeros(model.input_shape, np.float32)).shape == (5,)


@pytest.mark.parametrize(
    ("weight", "node", "name"),
    [
        ("resnetv15_conv0_weight", "x", "resnetv15_conv0"),
        ("onnx::Conv_193", "/layer1/layer1.0/conv1/Conv", "layer1.0.conv1"),
        ("193", "Conv_0", "Conv_0"),
        ("193", "", "conv0"),
    ],
)
def test_layer_names(tmp_path: Path, weight: str, node: str, name: str) -> None:
    model = tiny_model(weight=weight, conv_name=node)
    assert import_model(save(model, tmp_path / "m.onnx")).conv_names == (name,)


def test_shared_weights_get_different_names(tmp_path: Path) -> None:
    again = helper.make_node("Gemm", ["q", "head.weight"], ["e"], name="g2", transB=1)
    model = tiny_model()
    nodes = list(model.graph.node)
    del model.graph.node[:]
    nodes[4].output[0] = "z"
    nodes[4].input[2] = "head.bias"
    model.graph.node.extend(nodes)
    model.graph.node.append(helper.make_node("Slice", ["z", "b", "e4", "ax"], ["q"]))
    model.graph.node.append(again)
    model.graph.node.append(helper.make_node("Identity", ["e"], ["logits"]))
    for key, value in (("b", 0), ("e4", 4), ("ax", 1)):
        model.graph.initializer.append(helper.make_tensor(key, TensorProto.INT64, [1], [value]))
    assert import_model(save(model, tmp_path / "m.onnx")).dense_names == ("head", "head#2")


def test_module_paths_of_pytorch() -> None:
    name = "/layer2/layer2.0/downsample/downsample.0/Conv"
    assert _name_from_scope(name) == "layer2.0.downsample.0"
    assert _name_from_scope("plain") == "plain"


# ---- refused -------------------------------------------------------------------------------------
def test_missing_file(tmp_path: Path) -> None:
    sentence = r"no.onnx: must be an ONNX file, got no such file; check the path"
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_model(tmp_path / "no.onnx")


@pytest.mark.parametrize("part", [0.0, 0.001, 0.3, 0.7, 0.999])
def test_truncated_file(tmp_path: Path, part: float) -> None:
    data = DIGITS_ONNX.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(len(data) * part)])
    sentence = (
        r"cut.onnx: must (be a complete ONNX file, got a truncated or damaged file \(.*\)|contain "
        r"a graph, got \d+ bytes without a node); download or export "
    )
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_model(path)


def test_file_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("not a model at all, just a line of text")
    with pytest.raises(
        UnsupportedModelError, match=r"must be a complete ONNX file, got a truncated"
    ):
        import_model(tmp_path / "m.onnx")


def test_truncated_xz(tmp_path: Path) -> None:
    (tmp_path / "m.onnx.xz").write_bytes(lzma.compress(tiny_model().SerializeToString())[:-40])
    with pytest.raises(
        UnsupportedModelError, match=r"m.onnx.xz: must be readable, got .*; download"
    ):
        import_model(tmp_path / "m.onnx.xz")


def test_operator_that_does_not_exist(tmp_path: Path) -> None:
    extra = (helper.make_node("Frobnicate", ["r"], ["e"], name="odd"),)
    sentence = r"node odd: must be an operator that TVM's ONNX importer supports, got Frobnicate;"
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_model(save(tiny_model(extra=extra), tmp_path / "m.onnx"))


def test_operator_of_another_domain(tmp_path: Path) -> None:
    extra = (helper.make_node("Magic", ["r"], ["e"], domain="my.domain"),)
    with pytest.raises(UnsupportedModelError, match=r"node e: must be .* got my.domain.Magic; "):
        import_model(save(tiny_model(extra=extra), tmp_path / "m.onnx"))


def test_operator_that_tvm_lacks(tmp_path: Path) -> None:
    extra = (
        helper.make_node("TfIdfVectorizer", ["r"], ["e"], name="words", mode="TF",
                         max_gram_length=1, max_skip_count=0, min_gram_length=1,
                         ngram_counts=[0], ngram_indexes=[0], pool_int64s=[1]),
    )  # fmt: skip
    with pytest.raises(UnsupportedModelError, match=r"node words: must be .* got TfIdfVectorizer"):
        import_model(save(tiny_model(extra=extra), tmp_path / "m.onnx"))


def test_model_that_tvm_cannot_import(tmp_path: Path) -> None:
    extra = (helper.make_node("Reshape", ["r", "p"], ["e"], name="dynamic"),)
    model = tiny_model(extra=extra)
    model.graph.node[0].input[1] = "head.bias"  # a convolution with a vector as weight
    with pytest.raises(
        UnsupportedModelError, match=r"m.*: must be a (model that TVM's|complete ONNX)"
    ):
        import_model(save(model, tmp_path / "m.onnx"))


@pytest.mark.parametrize("shape", [("N", 3, "H", "W"), ("N", 3, 8, 0), (1, 3, -8, -8), ()])
def test_dynamic_shape(tmp_path: Path, shape: tuple[object, ...]) -> None:
    sentence = (
        r"m input data: must have a static shape of 1 to 5 dimensions \(only the batch may be"
    )
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_model(save(tiny_model(shape=shape), tmp_path / "m.onnx"))


def test_input_that_is_not_float(tmp_path: Path) -> None:
    model = tiny_model(elem_type=TensorProto.UINT8)
    with pytest.raises(UnsupportedModelError, match=r"input data: must be floats, got UINT8; exp"):
        import_model(save(model, tmp_path / "m.onnx"))


def test_outputs_of_any_number_and_shape(tmp_path: Path) -> None:
    proto = tiny_model()
    proto.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, [1, 4, 8, 8]))
    model = import_model(save(proto, tmp_path / "m.onnx"))
    assert [(o.name, o.shape) for o in model.outputs] == [
        ("logits", (1, 5)),
        ("r", (1, 4, 8, 8)),
    ]
    assert model.classes is None and model.values == 5 + 256
    image = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
    expected = OnnxSession(proto).run(["logits", "r"], {"data": image})
    for ours, theirs in zip(HostModule(model.mod)(image), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_an_input_that_nothing_reads(tmp_path: Path) -> None:
    two = tiny_model()
    two.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1, 4, 8, 8]))
    model = import_model(save(two, tmp_path / "m.onnx"))
    assert [value.name for value in model.inputs] == ["data", "more"]
    assert model.input_shape == (1, 3 * 8 * 8 + 4 * 8 * 8)


def test_output_that_is_no_logits(tmp_path: Path) -> None:
    model = tiny_model()
    del model.graph.node[2:]
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, ["N", 4, 8, 8]))
    imported = import_model(save(model, tmp_path / "m.onnx"))
    assert imported.classes is None and imported.values == 256


def test_output_without_a_fixed_size(tmp_path: Path) -> None:
    model = tiny_model()
    model.graph.node.append(helper.make_node("NonZero", ["logits"], ["where"]))
    model.graph.output.append(helper.make_tensor_value_info("where", TensorProto.INT64, None))
    with pytest.raises(UnsupportedModelError, match=r"m .*where: must be|m node where: must be"):
        import_model(save(model, tmp_path / "m.onnx"))


def test_importer_writes_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    extra = (helper.make_node("Frobnicate", ["r"], ["e"]),)
    with pytest.raises(UnsupportedModelError):
        import_model(save(tiny_model(extra=extra), tmp_path / "m.onnx"))
    import_model(save(tiny_model(), tmp_path / "n.onnx"))
    assert capfd.readouterr() == ("", "")


def test_embedded_model_is_a_whole_resnet18() -> None:
    proto = onnx.load(str(DIGITS_ONNX))
    assert DIGITS_ONNX.stat().st_size < 4_000_000
    kinds = [node.op_type for node in proto.graph.node]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert counts == {
        "Conv": 20, "BatchNormalization": 20, "Relu": 17, "Add": 8, "MaxPool": 1,
        "GlobalAveragePool": 1, "Flatten": 1, "Gemm": 1,
    }  # fmt: skip
    assert proto.opset_import[0].version == 13


def test_an_output_without_a_shape(tmp_path: Path) -> None:
    model = tiny_model()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert import_model(save(model, tmp_path / "m.onnx")).classes == 5
