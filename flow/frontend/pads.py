"""Import ONNX's Pad as the one operator R.nn.pad.

TVM's importer makes functions of its own of a Pad, which no pass recognizes, so that it would stay
on the host, with conversions to floats around it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from onnx import numpy_helper

from flow.frontend.onnx_nodes import attributes_of
from flow.frontend.simplify import constants_of

#: What ONNX's ways to pad are called in Relax.
_MODES: Final = {
    b"constant": "constant",
    b"reflect": "reflect",
    b"edge": "replicate",
    b"wrap": "circular",
}


def with_pads(mod: Any, tensors: Mapping[str, str], proto: Any) -> Any:
    """Return the imported module with R.nn.pad where the importer wrote a function for a Pad.

    Parameters
    ----------
    mod : IRModule
        As imported.
    tensors : mapping
        Name of a variable -> ONNX tensor.
    proto : onnx.ModelProto
        The model. Pads whose numbers are computed, or that cut off, stay as they are.
    """
    from tvm import relax  # takes seconds

    from relay_passes.graph import dtype_of, op_name, rewrite, static_shape

    constants = constants_of(proto.graph)
    pads = {
        node.output[0]: found
        for node in proto.graph.node
        if node.op_type == "Pad" and (found := _read(node, constants)) is not None
    }
    if not pads:
        return mod

    def visit(builder: Any, var: Any, value: Any) -> Any:
        found = pads.get(tensors.get(var.name, ""))
        if op_name(value) != "call_tir" or found is None:
            return value
        data = next(iter(value.args[1].fields))
        mode, number, given = found
        widths = _all_axes(given, len(static_shape(data)))
        if widths is None or dtype_of(data) != "float32":
            return value
        return relax.op.nn.pad(data, widths, pad_mode=mode, pad_value=number)

    return rewrite(mod, visit)


def _read(node: Any, constants: Mapping[str, Any]) -> tuple[str, float, list[int]] | None:
    """Return a Pad's mode, number and widths, all before and then all behind; None otherwise."""
    attributes = attributes_of(node)
    given: list[Any] = [
        attributes.get("pads", attributes.get("paddings")),
        attributes.get("value", 0.0),
        None,
    ]
    for index, source in enumerate(node.input[1:4]):
        if source:
            tensor = constants.get(source)
            if tensor is None:
                return None
            given[index] = numpy_helper.to_array(tensor).reshape(-1)
    widths, number, axes = given
    mode = _MODES.get(attributes.get("mode", b"constant"))
    if mode is None or widths is None or axes is not None or min(widths, default=0) < 0:
        return None
    (value,) = np.asarray(number, np.float64).reshape(-1)
    return mode, float(value), [int(width) for width in widths]


def _all_axes(widths: list[int], rank: int) -> list[int] | None:
    """Return widths axis by axis, before and behind; None where they are for other axes."""
    if len(widths) != 2 * rank:
        return None
    return [width for pair in zip(widths[:rank], widths[rank:], strict=True) for width in pair]
