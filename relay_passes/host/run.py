"""Run a Relax module on the host: plainly, which is the reference, or with BLAS convolutions.

TVM's CPU backend does not schedule convolutions. `UseHostKernels` turns each into a call of a
registered host function that unfolds the input (im2col) and multiplies matrices with numpy's BLAS.
For int8 the products are summed as floats of which every partial sum is an exact integer: float32
while the bound of the sum is below 2^24, else float64 (2^53). The int32 results are therefore the
reference's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

import numpy as np
import tvm
import tvm_ffi
from numpy.typing import NDArray
from tvm import relax

from relay_passes.graph import (
    Expr,
    GraphBuilder,
    GraphPass,
    Module,
    constant,
    ints,
    op_name,
    read_graph,
    rewrite,
)
from relay_passes.host.kernels import KernelCache
from relay_passes.host.rows import array_shape, inputs_of
from relay_passes.numerics import accumulator_bound

CONV2D_FUNCTION: Final = "relay_passes.host.conv2d"
#: Integers up to here are exact in float32.
_FLOAT32_EXACT: Final = 1 << 24
#: TVM's option to leave checks out of kernels.
_NO_CHECKS: Final = "tirx.disable_assert"
#: Machine code that this process has made.
_KERNELS: Final = KernelCache()


def conv2d(
    x: NDArray[Any],
    weight: NDArray[Any],
    *,
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    dilation: tuple[int, int] = (1, 1),
    groups: int = 1,
    float_type: Any = np.float32,
) -> NDArray[Any]:
    """Convolve by im2col and matrix products, float_type[N, O, OH, OW].

    Parameters
    ----------
    x : number[N, C, H, W]
        Input; converted to `float_type`.
    weight : number[O, C / groups, KH, KW]
        Weights; converted to `float_type`.
    stride, dilation : tuple[int, int]
        (vertical, horizontal).
    padding : tuple[int, int, int, int]
        (top, left, bottom, right), zeros.
    groups : int
        Groups of channels.
    float_type : dtype
        Type to multiply and add in.
    """
    n, c, h, w = x.shape
    o, _, kh, kw = weight.shape
    top, left, bottom, right = padding
    padded = np.zeros((n, c, h + top + bottom, w + left + right), float_type)
    padded[:, :, top : top + h, left : left + w] = x
    rows = (padded.shape[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    columns = (padded.shape[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    sn, sc, sh, sw = padded.strides
    windows = np.lib.stride_tricks.as_strided(
        padded,
        (n, groups, c // groups, kh, kw, rows, columns),
        (
            sn,
            sc * (c // groups),
            sc,
            sh * dilation[0],
            sw * dilation[1],
            sh * stride[0],
            sw * stride[1],
        ),
        writeable=False,
    )
    unfolded = windows.reshape(n, groups, c // groups * kh * kw, rows * columns)
    matrix = weight.reshape(groups, o // groups, -1).astype(float_type, copy=False)
    with np.errstate(invalid="ignore", over="ignore"):  # infinities are for the caller to see
        return np.asarray(np.matmul(matrix, unfolded).reshape(n, o, rows, columns))


def sums_in_float32(weight: NDArray[Any]) -> bool:
    """Whether float32 holds every partial sum of int8 inputs times a weight int8[O, ...]."""
    return int(accumulator_bound(weight, 128).max(initial=0)) < _FLOAT32_EXACT


@tvm_ffi.register_global_func(CONV2D_FUNCTION, override=True)
def _conv2d_packed(x: Any, weight: Any, attributes: Any, exact_float32: int, out: Any) -> None:
    """Run `conv2d` on TVM's tensors; int8 -> int32 exactly."""
    values = [int(v) for v in attributes]
    target = np.from_dlpack(out)
    result = conv2d(
        np.from_dlpack(x),
        np.from_dlpack(weight),
        stride=(values[0], values[1]),
        padding=(values[2], values[3], values[4], values[5]),
        dilation=(values[6], values[7]),
        groups=values[8],
        float_type=np.float32 if exact_float32 else np.float64,
    )
    np.copyto(target, result, casting="unsafe")


@dataclass(frozen=True, slots=True, kw_only=True)
class UseHostKernels(GraphPass):
    """Replace every convolution by a call of the host function; the results are the same integers.

    Float32 convolutions differ from TVM's in the order of summation only.
    """

    def transform(self, mod: Module) -> Module:
        """Return `mod` with its convolutions called on the host."""
        return rewrite(mod, self._visit)

    @staticmethod
    def _visit(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
        if op_name(value) != "nn.conv2d" or str(value.attrs.data_layout) != "NCHW":
            return value
        attrs = value.attrs
        numbers = (
            *ints(attrs.strides),
            *ints(attrs.padding),
            *ints(attrs.dilation),
            int(attrs.groups),
        )
        weight = constant(value.args[1])
        exact = True
        if str(var.ty.dtype) == "int32":
            exact = weight is not None and sums_in_float32(weight)
        elif str(var.ty.dtype) != "float32":
            return value
        args = relax.Tuple([*value.args, relax.ShapeExpr(numbers), relax.prim_value(int(exact))])
        return relax.op.call_dps_packed(CONV2D_FUNCTION, args, out_ty=var.ty)


def compile_for_host(mod: Module, target: Any) -> Any:
    """Return the TVM executable of a module (relax.VMExecutable).

    TVM puts checks of all arguments into every kernel; they are half of the time that LLVM takes.
    The virtual machine checks the arguments of ``main``, and the shapes inside are fixed, so the
    kernels go without. Instruments see our passes, not those of TVM on the way to machine code.
    """
    with _without_checks():
        return tvm.compile(mod, target=target)


def _without_checks() -> Any:
    context = tvm.transform.PassContext.current()
    return tvm.transform.PassContext(
        opt_level=context.opt_level,
        required_pass=context.required_pass,
        disabled_pass=context.disabled_pass,
        config={**context.config, _NO_CHECKS: True},
    )


class HostModule:
    """A Relax module compiled for the host; call it with arrays.

    Parameters
    ----------
    mod : IRModule
        With function ``main``.
    fast : bool
        Whether convolutions run through BLAS (`UseHostKernels`); False is the plain reference.
    """

    def __init__(self, mod: Module, *, fast: bool = False) -> None:
        """Compile the module."""
        self._mod = UseHostKernels()(mod) if fast else mod
        with _without_checks():
            executable = _KERNELS.build(
                self._mod,
                floats=host_target() if fast else tvm.target.Target("llvm"),
                integers=host_target(),
            )
        self._vm = relax.VirtualMachine(executable, tvm.cpu())

    def __call__(self, *inputs: NDArray[Any]) -> list[NDArray[Any]]:
        """Run ``main`` and return its results, one array each.

        Of several parameters one array may hold all (`relay_passes.host.rows`).
        """
        if len(inputs) == 1:
            inputs = tuple(inputs_of(inputs[0], self.input_shapes))
        result = self._vm["main"](*(tvm.runtime.tensor(np.ascontiguousarray(x)) for x in inputs))
        items: Iterable[Any] = [result] if hasattr(result, "numpy") else result
        return [np.asarray(item.numpy()) for item in items]

    @cached_property
    def input_shapes(self) -> list[tuple[int, ...]]:
        """Shapes of ``main``'s parameters."""
        return [ints(p.ty.shape.values) for p in read_graph(self._mod).params]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of the array that holds all of them."""
        return array_shape(self.input_shapes)


@lru_cache(maxsize=1)
def host_target() -> Any:
    """Return an LLVM target for this machine's own processor, else the plain one."""
    try:
        cpu = str(tvm_ffi.get_global_func("target.llvm_get_system_cpu")())
        return tvm.target.Target({"kind": "llvm", "mcpu": cpu})
    except (ValueError, TypeError, tvm.error.TVMError):
        return tvm.target.Target("llvm")
