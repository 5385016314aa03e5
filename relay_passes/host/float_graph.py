"""Run a float graph tensor by tensor with numpy, and again from a changed tensor on.

A compiled module always runs as a whole. Here each tensor is kept, so that what follows from a
change of one costs only the operators behind it. Convolutions are those of `host.run`; an operator
without a line here is compiled by TVM, once, alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any, Final

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import (
    Expr,
    GraphBuilder,
    Module,
    constant,
    ints,
    op_name,
    read_graph,
    static_shape,
    variables,
)
from relay_passes.host.rows import array_shape, inputs_of
from relay_passes.host.run import HostModule, conv2d
from vta_config.errors import CalibrationError

Values = Mapping[str, NDArray[Any]]
_Compute = Callable[[Expr, list[Any]], Any]


class FloatGraph:
    """A module whose tensors have names of their own, run on the host.

    Parameters
    ----------
    mod : IRModule
        With function ``main``, named by `NameTensors`.
    """

    def __init__(self, mod: Module) -> None:
        """Read the graph."""
        self.mod = mod
        self.graph = read_graph(mod)
        self.calls: dict[str, Expr] = {str(b.var.name): b.value for b in self.graph.bindings}
        self._reads = {
            name: tuple(str(v.name) for v in variables(value)) for name, value in self.calls.items()
        }
        self._operands = {
            name: [_operand(arg) for arg in value.args]
            for name, value in self.calls.items()
            if isinstance(value, relax.Call)
        }
        self._compiled: dict[str, HostModule] = {}
        self._compiling = Lock()  # threads may share the graph, but not a virtual machine

    def run(self, image: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Return every tensor, by name, of one input of the module's shape.

        Of several parameters it holds all (`relay_passes.host.rows`).

        Raises
        ------
        CalibrationError
            When the input has another shape.
        """
        shapes = [static_shape(param) for param in self.graph.params]
        expected = array_shape(shapes)
        if np.shape(image) != expected:
            raise CalibrationError(
                "calibration image",
                f"must have shape {list(expected)}",
                got=list(np.shape(image)),
                hint="preprocess it for this model",
            )
        inputs = inputs_of(np.asarray(image, np.float32), shapes)
        names = (str(param.name) for param in self.graph.params)
        values: dict[str, Any] = dict(zip(names, inputs, strict=True))
        for name in self.calls:
            values[name] = self.compute(name, values)
        return values

    def compute(
        self, name: str, values: Values, *, weight: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """Return one tensor from those that it reads; with another weight where one is given."""
        call = self.calls[name]
        if isinstance(call, relax.TupleGetItem):
            return np.asarray(values[str(call.tuple_value.name)][call.index])
        compute = _COMPUTE.get(op_name(call))
        if compute is None:
            return self._by_tvm(name, values)
        operands = [_found(operand, values) for operand in self._operands[name]]
        if weight is not None:
            operands[1] = weight
        return np.asarray(compute(call, operands))

    def results(self, values: Values, changed: Values) -> list[NDArray[Any]]:
        """Return the module's results when some tensors of a run have other values.

        Parameters
        ----------
        values : dict[str, number[...]]
            Of the run, as `run` returned them.
        changed : dict[str, number[...]]
            What takes the place of some of them.
        """
        now = _Changed(values, changed)
        for name, reads in self._reads.items():
            if name not in changed and any(source in now.new for source in reads):
                now.new[name] = self.compute(name, now)
        return [now[str(v.name)] for v in self.graph.results]

    def _by_tvm(self, name: str, values: Values) -> NDArray[Any]:
        call = self.calls[name]
        sources = list(dict.fromkeys(variables(call)))
        with self._compiling:
            if name not in self._compiled:
                builder = GraphBuilder()
                result = builder.emit(call, name)
                function = builder.function(sources, [result], {"global_symbol": "main"})
                alone = tvm.IRModule({relax.GlobalVar("main"): function})
                self._compiled[name] = HostModule(alone)
            found = self._compiled[name](*(values[str(v.name)] for v in sources))
        if isinstance(call.ty, relax.TupleType):
            return found  # type: ignore[return-value]  # several, which only TupleGetItem reads
        return found[0]


class _Changed(Mapping[str, Any]):
    """Tensors of a run, some of them anew."""

    def __init__(self, old: Values, new: Values) -> None:
        self.old, self.new = old, dict(new)

    def __getitem__(self, name: str) -> Any:
        return self.new[name] if name in self.new else self.old[name]

    def __iter__(self) -> Any:
        return iter(self.old)

    def __len__(self) -> int:
        return len(self.old)


def _operand(arg: Expr) -> Any:
    """Return what an operand is in every run: a tensor's name, some operands, or a constant."""
    if isinstance(arg, relax.Var):
        return str(arg.name)
    if isinstance(arg, relax.Tuple):
        return [_operand(field) for field in arg.fields]
    value = constant(arg)
    return arg if value is None else value


def _found(operand: Any, values: Values) -> Any:
    """Return an operand's values in one run."""
    if isinstance(operand, str):
        return values[operand]
    return [_found(o, values) for o in operand] if isinstance(operand, list) else operand


def _conv2d(call: Expr, operands: list[Any]) -> Any:
    attrs = call.attrs
    return conv2d(
        *operands,
        stride=ints(attrs.strides),  # type: ignore[arg-type]  # two numbers
        padding=ints(attrs.padding),  # type: ignore[arg-type]  # four
        dilation=ints(attrs.dilation),  # type: ignore[arg-type]  # two
        groups=int(attrs.groups),
    )


def _max_pool2d(call: Expr, operands: list[Any]) -> Any:
    attrs, (x,) = call.attrs, operands
    (kh, kw), (sh, sw) = ints(attrs.pool_size), ints(attrs.strides)
    (dh, dw), (top, left, bottom, right) = ints(attrs.dilation), ints(attrs.padding)
    rows, columns = static_shape(call)[2:]
    height = max(x.shape[2] + top + bottom, (rows - 1) * sh + (kh - 1) * dh + 1)
    width = max(x.shape[3] + left + right, (columns - 1) * sw + (kw - 1) * dw + 1)
    padded = np.full((*x.shape[:2], height, width), -np.inf, x.dtype)
    padded[:, :, top : top + x.shape[2], left : left + x.shape[3]] = x
    parts = (
        padded[:, :, i * dh : i * dh + (rows - 1) * sh + 1 : sh,
               j * dw : j * dw + (columns - 1) * sw + 1 : sw]
        for i in range(kh) for j in range(kw)
    )  # fmt: skip
    result = next(parts).copy()
    for part in parts:
        np.maximum(result, part, out=result)
    return result


def _shaped(call: Expr, operands: list[Any]) -> Any:
    return operands[0].reshape(static_shape(call))


def _clip(call: Expr, operands: list[Any]) -> Any:
    low, high = (float(getattr(a, "value", a)) for a in call.args[1:3])
    return np.clip(operands[0], np.float32(low), np.float32(high))


def _axes(call: Expr) -> tuple[int, ...] | None:
    return None if call.attrs.axis is None else ints(call.attrs.axis)


def _permuted(call: Expr, operands: list[Any]) -> Any:
    axes = call.attrs.axes
    return np.transpose(operands[0], None if axes is None else ints(axes))


#: What numpy computes, by operator.
_COMPUTE: Final[Mapping[str, _Compute]] = {
    "nn.conv2d": lambda call, x: _conv2d(call, x),
    "nn.max_pool2d": _max_pool2d,
    "nn.relu": lambda call, x: np.maximum(x[0], np.float32(0)),
    "clip": _clip,
    "add": lambda call, x: x[0] + x[1],
    "subtract": lambda call, x: x[0] - x[1],
    "multiply": lambda call, x: x[0] * x[1],
    "divide": lambda call, x: x[0] / x[1],
    "matmul": lambda call, x: x[0] @ x[1],
    "mean": lambda call, x: x[0].mean(_axes(call), keepdims=bool(call.attrs.keepdims)),
    "reshape": _shaped,
    "squeeze": _shaped,
    "expand_dims": _shaped,
    "permute_dims": _permuted,
}
