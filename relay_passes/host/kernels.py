"""Compile the kernels of host modules once: the variants of one network differ in few of them.

Most of the time that TVM takes to build a module is LLVM's, kernel by kernel. Here a kernel's name
is made of what it computes, so that modules share machine code: each brings only the kernels that
none before it had. Numbers inside operators, shifts most of all, become operands: kernels do not
differ by them.

Integers are summed in whichever order this machine's processor likes (`convolutions`): the results
are the same. Kernels with floats keep the target that they are asked for, which decides how floats
are rounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

import numpy as np
import tvm
from tvm import relax
from tvm.relax import vm_build
from tvm.relax.expr import _update_type
from tvm.relax.expr_functor import PyExprMutator, mutator
from tvm.s_tir import Schedule
from tvm.tirx import PrimFunc
from tvm_ffi import structural_equal, structural_hash

from relay_passes.graph import Expr, GraphBuilder, Module, constant, op_name, rewrite
from relay_passes.host import convolutions

#: Kernels after which a process starts anew: a network has about a hundred.
MOST_KERNELS: Final = 4096
#: Operators whose numbers LegalizeOps would write into the kernel.
_BINARY: Final = frozenset({"add", "subtract", "multiply", "left_shift", "right_shift"})


@dataclass(slots=True, kw_only=True)
class _Kernel:
    """A function of loops, the name that it got, and the module with its machine code."""

    function: Any
    name: str
    target: str
    code: Any = None


class KernelCache:
    """Machine code of kernels, for one process.

    `build` returns executables for running, not for a file: what they share lies in other modules.
    """

    def __init__(self, most: int = MOST_KERNELS) -> None:
        """Start without any."""
        self._most = most
        self._lock = Lock()
        self._known: dict[tuple[str, int], list[_Kernel]] = {}  # by target and hash
        self._count = 0

    def build(self, mod: Module, *, floats: Any, integers: Any) -> Any:
        """Return the executable of a module (relax.VMExecutable), with kernels known or new.

        Parameters
        ----------
        mod : IRModule
            Relax, with function ``main``.
        floats, integers : tvm.target.Target
            LLVM targets of kernels that read or write floats, and of others.
        """
        with integers:
            mod = relax.transform.LegalizeOps({"relax.nn.conv2d": convolutions.legalize})(
                rewrite(mod, _with_operands)
            )
        with self._lock:
            mod, needed, missing = self._shared(mod, floats, integers)
            with integers:
                mod = relax.get_pipeline("default")(mod)
            builder = relax.ExecBuilder()
            kernels = vm_build._vmcodegen(builder, mod).functions
            code = [m for m in needed.values() if m is not None]
            for target in {str(floats): floats, str(integers): integers}.values():
                fresh = {
                    gvar: kernel
                    for gvar, kernel in kernels.items()
                    if gvar.name_hint in missing and missing[gvar.name_hint].target == str(target)
                }
                if fresh:
                    code.append(_compiled(tvm.IRModule(fresh), target))
                    for gvar in fresh:
                        missing[gvar.name_hint].code = code[-1]
        executable = builder.get()
        for module in code:
            executable.mod.import_module(module)
        return executable

    def _shared(
        self, mod: Module, floats: Any, integers: Any
    ) -> tuple[Module, dict[int, Any], dict[str, _Kernel]]:
        """Return `mod` with kernels named by content; the code there is, and kernels without."""
        if self._count > self._most:
            self._known, self._count = {}, 0
        names: dict[Any, Any] = {}
        code: dict[int, Any] = {}
        missing: dict[str, _Kernel] = {}
        functions: dict[Any, Any] = {}
        for gvar, function in mod.functions.items():
            if not isinstance(function, PrimFunc):
                continue
            target = str(floats if _has_floats(function) else integers)
            kernels = self._known.setdefault((target, structural_hash(function)), [])
            kernel = next((k for k in kernels if structural_equal(k.function, function)), None)
            if kernel is None:
                self._count += 1
                kernel = _Kernel(function=function, name=f"kernel_{self._count}", target=target)
                kernels.append(kernel)
            if kernel.code is None:
                missing[kernel.name] = kernel
            else:
                code[id(kernel.code)] = kernel.code
            names[gvar] = tvm.ir.GlobalVar(kernel.name)
            _update_type(names[gvar], gvar.ty)
            functions[names[gvar]] = function
        for gvar, function in mod.functions.items():
            if gvar not in names:
                functions[gvar] = _Renamed(names).visit_expr(function)
        return tvm.IRModule(functions, attrs=mod.attrs), code, missing


def _has_floats(kernel: PrimFunc) -> bool:
    """Tell whether a kernel reads or writes floats."""
    return any("float" in str(operand.dtype) for operand in kernel.params)


def _compiled(kernels: Module, target: Any) -> Any:
    """Return the machine code of kernels."""
    loops = Schedule(kernels)
    for gvar in kernels.functions:
        convolutions.schedule(loops, gvar.name_hint)
    return tvm.tirx.build(loops.mod, target=target)


def _with_operands(builder: GraphBuilder, var: Expr, value: Expr) -> Expr | None:
    """Give binary operators their numbers as tensors of one element, which stay outside."""
    if op_name(value) not in _BINARY or not var.ty.shape.values:
        return value
    args = []
    for arg in value.args:
        number = constant(arg)
        if number is not None and number.ndim == 0:
            arg = relax.const(np.reshape(number, 1), str(number.dtype))  # else 64 bits become 32
        args.append(arg)
    return relax.Call(value.op, args, value.attrs, value.ty_args)


@mutator
class _Renamed(PyExprMutator):  # type: ignore[misc]  # TVM has no types
    """Calls kernels by other names."""

    def __init__(self, names: dict[Any, Any]) -> None:
        super().__init__()
        self._names = names

    def visit_global_var_(self, op: Any) -> Any:
        return self._names.get(op, op)
