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
from onnx import TensorProto, helper

from flow.frontend.importer import import_model
from flow.frontend.onnx_file import Limits, parse, read_bytes
from tests.flow.onnx_models import save, tiny_model
from vta_config.errors import UnsupportedModelError

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
    # More than is read, and unpacked, at a time.
    data = np.random.default_rng(0).integers(0, 256, size=(1 << 20) + 1, dtype=np.uint8).tobytes()
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
