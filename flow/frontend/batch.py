"""Models that were exported for a batch of several images, one image at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import onnx
from onnx import numpy_helper

from flow.frontend.onnx_session import OnnxSession, reason
from vta_config.errors import UnsupportedModelError

#: Operators whose second input is a shape that may name the batch.
_SHAPED: Final = frozenset({"Reshape", "Expand"})
#: Largest difference of an image's logits, alone and in the batch, as a share of the largest.
_ROUNDING: Final = 1e-4


def set_batch_to_one(proto: Any) -> Any | None:
    """Set the batch of a model to 1, in place; return what it was, where that was another number.

    The shapes that Reshape and Expand are given name the batch too: where they begin with it, they
    begin with 1.

    Parameters
    ----------
    proto : onnx.ModelProto
        Of one input and one output; changed.

    Returns
    -------
    onnx.ModelProto or None
        The model before, when it had a batch of more than 1.
    """
    graph = proto.graph
    first = graph.input[0].type.tensor_type.shape.dim[0]
    batch, before = first.dim_value, None
    if batch > 1:
        before = onnx.ModelProto()
        before.CopyFrom(proto)
    first.dim_value = 1
    output = graph.output[0].type.tensor_type.shape
    if output.dim:
        output.dim[0].dim_value = 1
    del graph.value_info[:]  # shapes between may still name the old batch
    if before is not None:
        for node, shape in _shapes(graph):
            if shape.size and shape[0] == batch:
                name = f"{node.input[1]}.one"
                if all(tensor.name != name for tensor in graph.initializer):
                    one = np.concatenate([np.ones(1, shape.dtype), shape[1:]])
                    graph.initializer.append(numpy_helper.from_array(one, name))
                node.input[1] = name
    return before


def _shapes(graph: Any) -> Iterator[tuple[Any, Any]]:
    """Yield nodes that are given a constant shape, and the shape."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    constants[node.output[0]] = attribute.t
                elif attribute.name == "value_ints":
                    value = np.asarray(attribute.ints, np.int64)
                    constants[node.output[0]] = numpy_helper.from_array(value)
        elif node.op_type in _SHAPED and len(node.input) > 1 and node.input[1] in constants:
            yield node, numpy_helper.to_array(constants[node.input[1]]).reshape(-1)


def check_batch(before: Any, after: Any, name: str) -> None:
    """Compare a model of a batch, and of one image, in ONNX Runtime on random images.

    Raises
    ------
    UnsupportedModelError
        When an image's logits are others alone than in the batch.
    """
    value = before.graph.input[0]
    shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    images = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    output = before.graph.output[0].name
    try:
        (together,) = OnnxSession(before).run([output], {value.name: images})
        session = OnnxSession(after)
        alone = {
            i: session.run([output], {value.name: images[i : i + 1]})[0]
            for i in (0, len(images) - 1)
        }
    except Exception as error:  # ONNX Runtime has no base class of its errors
        got = reason(error)
    else:
        together = np.asarray(together)
        limit = _ROUNDING * float(np.abs(together).max(initial=0.0))
        same = together.shape[:1] == (shape[0],) and all(
            np.shape(row) == (1, *together.shape[1:])
            and bool((np.abs(row[0] - together[i]) <= limit).all())
            for i, row in alone.items()
        )
        got = "" if same else "other logits alone than in the batch"
    if got:
        raise UnsupportedModelError(
            f"{name} input {value.name}",
            f"must give one image the same logits alone as in batches of {shape[0]}",
            got=got,
            hint="export with a batch of 1",
        )
