"""ONNX Runtime as the judge of what an ONNX model means: no optimizations, any tensor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from numpy.typing import NDArray


class OnnxSession:
    """A model in ONNX Runtime without graph optimizations.

    Parameters
    ----------
    proto : onnx.ModelProto
        The model.
    tensors : sequence of str
        Tensors besides the outputs that `run` may be asked for.

    Raises
    ------
    Exception
        Of many kinds, none of them ONNX Runtime's own base, when it does not take the model.
    """

    def __init__(self, proto: Any, tensors: Sequence[str] = ()) -> None:
        """Open a session."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4  # errors are ours to show
        outputs = proto.graph.output
        own, names = len(outputs), {value.name for value in outputs}
        try:  # a copy would double what weights take
            outputs.extend(onnx.ValueInfoProto(name=t) for t in tensors if t not in names)
            data = proto.SerializeToString()
        finally:
            del outputs[own:]
        self._session = onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"]
        )

    def run(self, tensors: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Return the values of `tensors`."""
        results: list[Any] = self._session.run(list(tensors), dict(inputs)) if tensors else []
        return results


def reason(error: Exception) -> str:
    """Return what ONNX Runtime says, in one line."""
    text = str(error).rsplit("Status Message:", maxsplit=1)[-1]
    return " ".join(text.split()).rstrip(".") or type(error).__name__
