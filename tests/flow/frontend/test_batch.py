"""flow.frontend.batch: a model of several pictures runs them one by one, or is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from flow.frontend.importer import import_model
from flow.frontend.onnx_session import OnnxSession
from relay_passes.host.run import HostModule
from tests.flow.onnx_models import save, tiny_model, weights
from vta_config.errors import UnsupportedModelError

BATCH = 4


def model(shape: list[int], *, form: str = "initializer") -> onnx.ModelProto:
    """Return the tiny model for four pictures, with a Reshape that says so in place of Flatten."""
    result = tiny_model(shape=(BATCH, 3, 8, 8))
    nodes = [n for n in result.graph.node if n.op_type != "Flatten"]
    reshape = helper.make_node("Reshape", ["p", "shape"], ["f"], "flat")
    value = numpy_helper.from_array(np.asarray(shape, np.int64), "shape")
    if form == "initializer":
        result.graph.initializer.append(value)
    elif form == "constant":
        nodes.insert(0, helper.make_node("Constant", [], ["shape"], value=value))
    else:
        nodes.insert(0, helper.make_node("Constant", [], ["shape"], value_ints=shape))
    nodes.insert(len(nodes) - 1, reshape)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


@pytest.mark.parametrize("form", ["initializer", "constant", "ints"])
@pytest.mark.parametrize("shape", [[BATCH, 4], [BATCH, -1], [-1, 4], [0, 4]])
def test_each_picture_gets_the_logits_that_it_has_in_the_batch(
    tmp_path: Path, shape: list[int], form: str
) -> None:
    proto = model(shape, form=form)
    images = np.random.default_rng(0).normal(size=(BATCH, 3, 8, 8)).astype(np.float32)
    (expected,) = OnnxSession(proto).run(["logits"], {"data": images})
    imported = import_model(save(proto, tmp_path / "m.onnx"))
    assert imported.input_shape == (1, 3, 8, 8)
    run = HostModule(imported.mod)
    for image, logits in zip(images, expected, strict=True):
        np.testing.assert_allclose(run(image[np.newaxis])[0][0], logits, rtol=1e-4, atol=1e-4)


def test_a_shape_that_others_read_too(tmp_path: Path) -> None:
    proto = model([BATCH, 4])
    again = helper.make_node("Reshape", ["logits0", "shape"], ["l2"], "again")
    gemm = proto.graph.node[-1]
    gemm.output[0] = "logits0"
    proto.graph.node.extend([again, helper.make_node("Identity", ["l2"], ["logits"])])
    for tensor in proto.graph.initializer:
        if tensor.name.startswith("head"):
            values = numpy_helper.to_array(tensor)[:4]
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    assert import_model(save(proto, tmp_path / "m.onnx")).classes == 4


SENTENCE = r"m input data: must give one image the same results alone as in batches of 4, got "


def test_pictures_that_are_mixed_are_refused(tmp_path: Path) -> None:
    """Logits less their mean over the batch."""
    proto = model([BATCH, 4])
    proto.graph.node[-1].output[0] = "raw"
    proto.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["raw"], ["mean"], axes=[0], keepdims=1),
            helper.make_node("Sub", ["raw", "mean"], ["logits"]),
        ]
    )
    with pytest.raises(UnsupportedModelError, match=f"{SENTENCE}other results alone than"):
        import_model(save(proto, tmp_path / "m.onnx"))


def test_a_batch_that_is_part_of_a_larger_number_is_refused(tmp_path: Path) -> None:
    proto = model([BATCH * 2, 2])
    proto.graph.node[-1].input[0] = "g"
    flat = helper.make_node("Reshape", ["f", "back"], ["g"], "back")
    proto.graph.node.insert(len(proto.graph.node) - 1, flat)
    proto.graph.initializer.append(numpy_helper.from_array(np.asarray([-1, 4]), "back"))
    with pytest.raises(UnsupportedModelError, match=f"{SENTENCE}.*; export with a batch of 1"):
        import_model(save(proto, tmp_path / "m.onnx"))


def test_a_constant_for_each_picture_is_refused(tmp_path: Path) -> None:
    proto = model([BATCH, 4])
    proto.graph.node[-1].output[0] = "raw"
    proto.graph.node.append(helper.make_node("Add", ["raw", "each"], ["logits"]))
    proto.graph.initializer.extend(weights(each=np.arange(BATCH * 5).reshape(BATCH, 5)))
    with pytest.raises(UnsupportedModelError, match=SENTENCE):
        import_model(save(proto, tmp_path / "m.onnx"))


def test_a_batch_that_would_fill_the_memory(tmp_path: Path) -> None:
    proto = tiny_model(shape=(1 << 31, 3, 8, 8))
    sentence = r"m input: must take at most 268,435,456 bytes, got 1,649,267,441,664; use a smaller"
    with pytest.raises(UnsupportedModelError, match=sentence):
        import_model(save(proto, tmp_path / "m.onnx"))


def test_any_batch_is_one(tmp_path: Path) -> None:
    proto = tiny_model(shape=("N", 3, 8, 8), elem_type=TensorProto.FLOAT)
    assert import_model(save(proto, tmp_path / "m.onnx")).input_shape == (1, 3, 8, 8)


def test_rows_of_each_picture_lie_one_after_the_other(tmp_path: Path) -> None:
    """Two outputs: one row for an image, and as many rows as it has channels."""
    proto = model([BATCH, 4])
    rows = numpy_helper.from_array(np.asarray([-1, 64]), "rows")
    proto.graph.initializer.append(rows)
    proto.graph.node.append(helper.make_node("Reshape", ["r", "rows"], ["pixels"], "rows"))
    proto.graph.output.append(helper.make_tensor_value_info("pixels", 1, [BATCH * 4, 64]))
    imported = import_model(save(proto, tmp_path / "m.onnx"))
    assert [output.shape for output in imported.outputs] == [(1, 5), (4, 64)]
