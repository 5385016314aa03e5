"""Models that were exported for a batch of several images, one image at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import onnx
from onnx import numpy_helper

from flow.frontend.onnx_session import OnnxSession, reason
from vta_config.errors import UnsupportedModelError

#: Operators whose second input is a shape that may name the batch.
_SHAPED: Final = frozenset({"Reshape", "Expand"})
#: Largest difference of an image's results, alone and in the batch, as a share of the largest.
_ROUNDING: Final = 1e-4


def set_batch_to_one(proto: Any) -> Any | None:
    """Set the batch of a model to 1, in place; return what it was, where that was another number.

    The shapes that Reshape and Expand are given name the batch too: where they begin with it, they
    begin with 1.

    Parameters
    ----------
    proto : onnx.ModelProto
        Changed.

    Returns
    -------
    onnx.ModelProto or None
        The model before, when it had a batch of more than 1.
    """
    graph = proto.graph
    firsts = [value.type.tensor_type.shape.dim[0] for value in graph.input]
    batch, before = max(first.dim_value for first in firsts), None
    if batch > 1:
        before = onnx.ModelProto()
        before.CopyFrom(proto)
    for first in firsts:
        first.dim_value = 1
    for value in graph.output:
        output = value.type.tensor_type.shape
        if output.dim and output.dim[0].dim_value in (0, batch):
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
        When an image's results are others alone than in the batch.
    """
    rng = np.random.default_rng(0)
    images = {}
    for value in before.graph.input:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        images[value.name] = rng.normal(size=shape).astype(np.float32)
    batch = max(map(len, images.values()))
    outputs = [output.name for output in before.graph.output]
    ends = (0, batch - 1)
    try:
        together = OnnxSession(before).run(outputs, images)
        session = OnnxSession(after)
        alone = [
            session.run(outputs, {name: x[i : i + 1] for name, x in images.items()}) for i in ends
        ]
    except Exception as error:  # ONNX Runtime has no base class of its errors
        got = reason(error)
    else:
        parts = [[own[k] for own in alone] for k in range(len(outputs))]
        same = all(_is_same(*pair, ends) for pair in zip(together, parts, strict=True))
        got = "" if same else "other results alone than in the batch"
    if got:
        raise UnsupportedModelError(
            f"{name} input {', '.join(images)}",
            f"must give one image the same results alone as in batches of {batch}",
            got=got,
            hint="export with a batch of 1",
        )


def _is_same(together: Any, alone: Sequence[Any], places: Sequence[int]) -> bool:
    """Tell whether the images at some places of a batch have the results that they have alone.

    Results of an image lie one after the other along the first axis, be it one row or many.
    """
    together, count = np.asarray(together), max(places) + 1
    limit = _ROUNDING * float(np.abs(together).max(initial=0.0))
    if not together.ndim or len(together) % count:
        return False
    each = len(together) // count
    return all(
        np.shape(own) == (each, *together.shape[1:])
        and bool((np.abs(own - together[each * i : each * (i + 1)]) <= limit).all())
        for i, own in zip(places, alone, strict=True)
    )
