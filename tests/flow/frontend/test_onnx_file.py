"""onnx_file.py and onnx_legacy.py: what is read, in which bounds, and files of old forms."""

from __future__ import annotations

import lzma
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from onnx import TensorProto, helper, numpy_helper

from flow.frontend.importer import import_model
from flow.frontend.onnx_file import Limits, parse, read_bytes
from flow.results.evaluate import OnnxRuntime
from relay_passes.host.run import HostModule
from tests.flow.onnx_models import save, tiny_model, weights
from vta_config.errors import UnsupportedModelError

IMAGE = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)
SMALL = Limits(factor=2**-12)  # 160 KiB of file


# ---- bounds -------------------------------------------------------------------------------------
def test_something_that_is_no_ordinary_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(UnsupportedModelError, match=r"got something that is no ordinary file; che"):
        read_bytes(tmp_path / "pipe.onnx")
    with pytest.raises(UnsupportedModelError, match=r"must be an ONNX file, got a folder; check"):
        read_bytes(tmp_path)


def test_a_file_of_holes(tmp_path: Path) -> None:
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(1 << 40)
    assert (tmp_path / "m.onnx").stat().st_blocks < 100
    sentence = (
        r"must take at most 671,088,640 bytes, got 1,099,511,627,776; .* --model-limit FACTOR"
    )
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_model(tmp_path / "m.onnx")


def test_a_small_file_that_unpacks_to_a_large_one(tmp_path: Path) -> None:
    (tmp_path / "m.onnx.xz").write_bytes(lzma.compress(bytes(1 << 20)))
    sentence = r"must take at most 163,840 bytes when unpacked, got 1,048,576; use a smaller model"
    with pytest.raises(UnsupportedModelError, match=sentence):
        read_bytes(tmp_path / "m.onnx.xz", SMALL)
    assert len(read_bytes(tmp_path / "m.onnx.xz")) == 1 << 20


@pytest.mark.parametrize("preset", [0, 6, 9])
@pytest.mark.parametrize("streams", [1, 2])
def test_packed_files_of_many_forms(tmp_path: Path, preset: int, streams: int) -> None:
    data = np.random.default_rng(0).integers(0, 4, size=3_000_001, dtype=np.uint8).tobytes()
    packed = lzma.compress(data, preset=preset) * streams
    (tmp_path / "m.onnx.xz").write_bytes(packed)
    assert read_bytes(tmp_path / "m.onnx.xz") == data * streams
    for cut in (packed[:-1], packed[: len(packed) // 3], b"", b"no xz at all"):
        (tmp_path / "cut.onnx.xz").write_bytes(cut)
        with pytest.raises(
            UnsupportedModelError, match=r"must be readable, got .*; download the file"
        ):
            read_bytes(tmp_path / "cut.onnx.xz")


def test_a_dictionary_that_would_fill_the_memory(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 28}]
    (tmp_path / "m.onnx.xz").write_bytes(lzma.compress(bytes(100), filters=filters))
    with pytest.raises(
        UnsupportedModelError, match=r"must be readable, got Memory usage limit exce"
    ):
        read_bytes(tmp_path / "m.onnx.xz")


def test_a_file_that_nobody_may_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tiny_model(), tmp_path / "m.onnx")

    def refuse(self: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert stat.S_ISREG(path.stat().st_mode)
    with pytest.raises(
        UnsupportedModelError, match=r"must be readable, got .*Permission denied; d"
    ):
        read_bytes(path)


# ---- external data ------------------------------------------------------------------------------
def external(location: str, **fields: int) -> onnx.ModelProto:
    """Return the tiny model with its convolution's weight in another file."""
    model = tiny_model()
    tensor = next(t for t in model.graph.initializer if t.name == "stem.weight")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **fields}.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


def test_external_data(tmp_path: Path) -> None:
    model = tiny_model()
    raw = next(t.raw_data for t in model.graph.initializer if t.name == "stem.weight")
    (tmp_path / "weights.bin").write_bytes(b"abcd" + raw)
    plain = import_model(save(model, tmp_path / "a.onnx"))
    packed = external("weights.bin", offset=4, length=len(raw))
    tvm.ir.assert_structural_equal(import_model(save(packed, tmp_path / "b.onnx")).mod, plain.mod)


@pytest.mark.parametrize(
    ("location", "fields", "sentence"),
    [
        (
            "missing.bin",
            {},
            "tensor stem.weight: must be in a file in the model's folder, got missing",
        ),
        ("../outside.bin", {}, "must be in a file in the model's folder, got ../outside.bin; put"),
        (
            "/dev/zero",
            {},
            "must be in a file in the model's folder, got /dev/zero; put the model's",
        ),
        (
            "pipe",
            {},
            "must be in a file in the model's folder, got pipe; put the model's data files",
        ),
        (
            "",
            {},
            "must be in a file in the model's folder, got no name; put the model's data files",
        ),
        ("short.bin", {"length": 432}, "tensor stem.weight lies beyond the end of short.bin"),
        ("short.bin", {"offset": -4}, "tensor stem.weight lies beyond the end of short.bin"),
        ("short.bin", {"length": "x"}, "tensor stem.weight: invalid literal"),
        ("short.bin", {}, r"tensor stem.weight has 25 numbers, not 108"),
        ("holes.bin", {}, r"stem.weight: must take at most 671,088,640 bytes with the external da"),
    ],
)
def test_external_data_that_cannot_be(
    tmp_path: Path, location: str, fields: dict[str, Any], sentence: str
) -> None:
    (tmp_path / "outside.bin").write_bytes(bytes(432))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "short.bin").write_bytes(bytes(100))
    os.mkfifo(folder / "pipe")
    with (folder / "holes.bin").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_model(save(external(location, **fields), folder / "m.onnx"))


# ---- old forms ----------------------------------------------------------------------------------
def test_weights_among_the_inputs_change_nothing(tmp_path: Path) -> None:
    """Files of IR version 3 list them; their shapes must be known all the same."""

    def model(*, old: bool) -> onnx.ModelProto:
        result = tiny_model(opset=8, weights_as_inputs=old)
        result.graph.node[0].CopyFrom(
            helper.make_node(
                "Conv", ["data", "stem.weight"], ["c"], "conv_node", auto_pad="SAME_UPPER"
            )
        )
        pool = result.graph.node[2]
        pool.CopyFrom(helper.make_node("AveragePool", ["r"], ["p"], "pool", kernel_shape=[8, 8]))
        return result

    old = import_model(save(model(old=True), tmp_path / "old.onnx"))
    new = import_model(save(model(old=False), tmp_path / "new.onnx"))
    tvm.ir.assert_structural_equal(old.mod, new.mod)
    assert old.origins == new.origins


def first_operator_set(*, typed: bool) -> onnx.ModelProto:
    """Return a network of operator set 1; not `typed`: of IR version 1, which says neither."""
    rng = np.random.default_rng(1)
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "b"], ["s"], broadcast=1, axis=1),
        helper.make_node("BatchNormalization", ["s", "g", "b", "b", "g"], ["n"], is_test=1,
                         spatial=1, consumed_inputs=[0, 0, 0, 1, 1]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Dropout", ["r"], ["d"], is_test=1),
        helper.make_node("Add", ["d", "k"], ["e"], broadcast=1),
        helper.make_node("GlobalAveragePool", ["e"], ["p"]),
        helper.make_node("Reshape", ["p"], ["f"], shape=[1, 4]),
        helper.make_node("Gemm", ["f", "fw", "fb"], ["y"], transB=1, broadcast=1),
    ]  # fmt: skip
    tensors = weights(
        w=rng.normal(size=(4, 3, 3, 3)),
        b=rng.normal(size=4),
        g=rng.uniform(1, 2, size=4),
        k=rng.normal(size=(8, 8)),
        fw=rng.normal(size=(5, 4)),
        fb=rng.normal(size=5),
    )
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])]
    inputs += [
        helper.make_tensor_value_info(t.name, TensorProto.FLOAT, list(t.dims)) for t in tensors
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])
    graph = helper.make_graph(nodes, "old", inputs, [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 1)], ir_version=3)
    if not typed:
        model.ir_version = 1
        del model.opset_import[:]
        for node in graph.node:
            for attribute in node.attribute:
                attribute.ClearField("type")
        model.graph.CopyFrom(graph)
    return model


@pytest.mark.parametrize("typed", [True, False])
def test_the_first_operator_set(tmp_path: Path, typed: bool) -> None:
    old = first_operator_set(typed=typed)
    tensors = {t.name: numpy_helper.to_array(t) for t in old.graph.initializer}
    model = import_model(save(old, tmp_path / "old.onnx"))
    (ours,) = HostModule(model.mod)(IMAGE)
    # By hand: what the operators meant then.
    padded = np.pad(IMAGE[0].astype(np.float64), ((0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    conv = np.einsum("chwij,ocij->ohw", windows, tensors["w"])
    g, b = (tensors[k].reshape(-1, 1, 1).astype(np.float64) for k in "gb")
    normal = g * (conv + b - b) / np.sqrt(g + 1e-5) + b
    flat = (np.maximum(normal, 0) + tensors["k"]).mean(axis=(1, 2))
    np.testing.assert_allclose(ours[0], tensors["fw"] @ flat + tensors["fb"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(ours[0], OnnxRuntime(model.proto)(IMAGE), rtol=1e-4, atol=1e-4)


def test_what_old_operators_said_otherwise_is_refused(tmp_path: Path) -> None:
    old = first_operator_set(typed=True)
    old.graph.node[2].attribute[-1].CopyFrom(helper.make_attribute("is_test", 0))
    del old.graph.node[2].attribute[:-1]
    with pytest.raises(UnsupportedModelError, match=r"must be a complete ONNX file, got .*is_test"):
        import_model(save(old, tmp_path / "old.onnx"))


def test_functions_of_the_model_are_inlined(tmp_path: Path) -> None:
    model = tiny_model(extra=(helper.make_node("Twice", ["r"], ["e"], "t", domain="my.domain"),))
    body = helper.make_node("Add", ["a", "a"], ["b"], "sum")
    model.functions.append(
        helper.make_function(
            "my.domain", "Twice", ["a"], ["b"], [body], [helper.make_opsetid("", 13)]
        )
    )
    imported = import_model(save(model, tmp_path / "m.onnx"))
    assert "Add" in {node.operator for node in imported.origins.values()}


def test_parse_takes_bytes_of_a_path(tmp_path: Path) -> None:
    path = save(tiny_model(), tmp_path / "m.onnx")
    assert parse(path.read_bytes(), path).graph.name == "tiny"
