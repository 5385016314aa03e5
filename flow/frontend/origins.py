"""Run TVM's ONNX importer and remember which ONNX node each Relax variable comes from.

The importer keeps a table of ONNX tensors, to which it adds the results of every node. A table that
binds each result to a variable of its own as it is added knows whose it is. Should another version
of TVM work in another way, the module is imported as ever and only the origins are missing.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flow.frontend.onnx_checks import operator_of
from flow.frontend.onnx_file import default_opset


@dataclass(frozen=True, slots=True)
class OnnxNode:
    """The ONNX node that a Relax variable comes from.

    Parameters
    ----------
    name : str
        The node's name; "" when it has none.
    operator : str
        Its operator, as ``Conv`` or ``com.microsoft.Gelu``.
    output : str
        The ONNX tensor that the variable holds; "" for a step within the node (the product of a
        Gemm before its bias is added).
    """

    name: str
    operator: str
    output: str

    @property
    def label(self) -> str:
        """What people call it: its name, else that of the tensor."""
        return self.name or self.output


class NodeError(Exception):
    """TVM's importer failed; the cause says why.

    Parameters
    ----------
    index : int
        Place of the node that it was at.
    """

    def __init__(self, index: int) -> None:
        """Note where."""
        super().__init__(index)
        self.index = index


def run_importer(proto: Any, shapes: Mapping[str, list[int]]) -> tuple[Any, dict[str, str]]:
    """Run TVM's importer; return the module and what ONNX tensors its variables hold.

    Parameters
    ----------
    proto : onnx.ModelProto
        With one version of the default operator set.
    shapes : mapping
        Input name -> shape.

    Returns
    -------
    tuple
        The IRModule, and a mapping of names: variable -> ONNX tensor.

    Raises
    ------
    NodeError
        When the importer does not take the model; it has no error type of its own.
    """
    import tvm
    from tvm.relax.frontend.onnx import from_onnx, onnx_frontend

    variables: dict[str, str] = {}
    try:
        importer = onnx_frontend.ONNXGraphImporter(dict(shapes), "float32")
        importer._nodes = _Table(importer.bb.emit, variables)
    except (AttributeError, TypeError):  # another version of TVM
        importer = None
    try:
        if importer is None:
            return from_onnx(proto, shape_dict=dict(shapes)), {}
        return importer.from_onnx(proto.graph, default_opset(proto)), variables
    except Exception as error:
        nodes = proto.graph.node
        index = 0
        if isinstance(error, tvm.error.OpNotImplemented):
            words = set(re.findall(r"\w+", str(error).rsplit(":", maxsplit=1)[-1]))
            index = next((i for i, n in enumerate(nodes) if n.op_type in words), 0)
        elif importer is not None:
            with contextlib.suppress(Exception):  # else the builder warns of what is not ended
                importer.bb._end_block()
            done = importer._nodes
            index = next((i for i, n in enumerate(nodes) if not set(n.output) & done.keys()), 0)
        raise NodeError(index) from error


class _Table(dict[str, Any]):
    """ONNX tensor -> Relax expression; each call is bound to a variable when it is added."""

    def __init__(self, emit: Callable[[Any], Any], variables: dict[str, str]) -> None:
        """Keep how to bind, and where to note what the variables hold."""
        super().__init__()
        self._emit = emit
        self._variables = variables

    def __setitem__(self, tensor: str, expr: Any) -> None:
        """Add a tensor."""
        from tvm import relax

        if isinstance(expr, relax.Call) and isinstance(expr.ty, relax.TensorType):
            expr = self._emit(expr)
        if isinstance(expr, relax.DataflowVar):  # no input
            self._variables.setdefault(expr.name, tensor)
        super().__setitem__(tensor, expr)


def origins_of(
    mod: Any, tensors: Mapping[str, str], protos: tuple[Any, ...]
) -> dict[str, OnnxNode]:
    """Map variables of ``main`` to their nodes; steps within a node to the node they lead to.

    Parameters
    ----------
    mod : IRModule
        As imported.
    tensors : mapping
        Variable -> ONNX tensor, as `run_importer` returns it.
    protos : tuple of onnx.ModelProto
        Where nodes are looked up, the last first: what was imported, then the user's model, whose
        nodes users know.
    """
    from tvm import relax

    from relay_passes.graph import read_graph

    nodes = {
        output: node for proto in protos for node in proto.graph.node for output in node.output
    }
    origins: dict[str, OnnxNode] = {}
    within: list[str] = []
    for binding in read_graph(mod).bindings:
        name, value = binding.var.name, binding.value
        if isinstance(value, relax.TupleGetItem) and name not in tensors:
            if (node := origins.get(value.tuple_value.name)) is not None:
                origins[name] = node  # one of several results that nobody reads
                continue
        tensor = tensors.get(name, "")
        node = nodes.get(tensor)
        if node is None:
            within.append(name)
            continue
        operator = operator_of(node)
        origins |= {step: OnnxNode(node.name, operator, "") for step in within}
        origins[name] = OnnxNode(node.name, operator, tensor)
        within = []
    return origins
