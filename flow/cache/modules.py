"""Relax modules as plain arrays and JSON, and back: exactly, or not at all.

Of a module with one function ``main`` of one block, as the passes make. TVM's own JSON does not
hold variables (it ends the process), and its script has other names for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import numpy as np
import tvm
import tvm_ffi
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import Op
from tvm.ir.attrs import make_node

from flow.cache.store import TEXT, text_array, text_of
from relay_passes.graph import Expr, Module

#: Name of the array of a constant.
_CONSTANT: Final = "constant-"
_MAIN: Final = "main"


class UnknownModuleError(Exception):
    """A module that is not kept: it has something that is not written here."""


def packed(mod: Module) -> dict[str, NDArray[Any]]:
    """Return a module as arrays from which `unpacked` makes it again.

    Raises
    ------
    UnknownModuleError
        When it has other parts than those that the passes make.
    """
    try:
        arrays = _Writer().module(mod)
        copy = unpacked(arrays)
        tvm.ir.assert_structural_equal(copy, mod)
        again = _Writer().module(copy)  # names, which do not count there
    except (AttributeError, TypeError, ValueError, KeyError, RuntimeError) as error:
        raise UnknownModuleError(str(error)) from None
    if digest_of(again) != digest_of(arrays):
        raise UnknownModuleError("another module comes back")
    return arrays


def unpacked(arrays: Mapping[str, NDArray[Any]]) -> Module:
    """Return the module of which `packed` made `arrays`.

    Raises
    ------
    Exception
        When `packed` did not make them.
    """
    return _Reader(arrays).module()


def digest_of(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return the sha256 of a packed module: everything in it counts."""
    return sha256(
        repr(sorted((k, _array_digest(v)) for k, v in arrays.items())).encode()
    ).hexdigest()


def _array_digest(array: NDArray[Any]) -> tuple[str, tuple[int, ...], str]:
    content = sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return array.dtype.str, array.shape, content.hexdigest()


def module_digest(mod: Module) -> str:
    """Return the sha256 of a module.

    Raises
    ------
    UnknownModuleError
        As `packed`.
    """
    try:
        writer = _Writer(keep=False)
        text = writer.module(mod)[TEXT]
        own = [(TEXT, _array_digest(text)), *writer.digests]
        return sha256(repr(sorted(own)).encode()).hexdigest()
    except (AttributeError, TypeError, ValueError, KeyError, RuntimeError) as error:
        raise UnknownModuleError(str(error)) from None


class _Writer:
    """Writes a module; without `keep` only the digests of its constants, which may be large."""

    def __init__(self, *, keep: bool = True) -> None:
        self._keep = keep
        self._constants: dict[str, NDArray[Any]] = {}
        self.digests: list[tuple[str, tuple[str, tuple[int, ...], str]]] = []
        self._count = 0
        self._numbers: dict[Expr, int] = {}

    def module(self, mod: Module) -> dict[str, NDArray[Any]]:
        names = [str(var.name_hint) for var in mod.get_global_vars()]
        if names != [_MAIN]:
            raise UnknownModuleError(f"functions {', '.join(names)}")
        function = mod[_MAIN]
        (block,) = function.body.blocks
        if not isinstance(block, relax.DataflowBlock) or not isinstance(function, relax.Function):
            raise UnknownModuleError(type(block).__name__)
        text = {
            "attrs": self._attrs(mod.attrs),
            "function": self._attrs(function.attrs),
            "params": [[self._bound(var), _type(var.ty)] for var in function.params],
            "bindings": [self._binding(binding) for binding in block.bindings],
            "body": self._expr(function.body.body),
        }
        return {TEXT: text_array(text), **self._constants}

    def _attrs(self, attrs: Any) -> list[list[Any]]:
        found: list[list[Any]] = []
        for name, value in sorted(attrs.items() if attrs is not None else ()):
            if isinstance(value, bool) or not isinstance(value, str | int):
                raise UnknownModuleError(f"attribute {name} of {type(value).__name__}")
            found.append([str(name), str(value) if isinstance(value, str) else int(value)])
        return found

    def _bound(self, var: Expr) -> str:
        self._numbers[var] = len(self._numbers)
        return str(var.name)

    def _binding(self, binding: Expr) -> list[Any]:
        if not isinstance(binding, relax.VarBinding):
            raise UnknownModuleError(type(binding).__name__)
        value = self._expr(binding.value)
        inside = isinstance(binding.var, relax.DataflowVar)
        return [self._bound(binding.var), inside, value]

    def _constant(self, array: NDArray[Any]) -> int:
        name, self._count = f"{_CONSTANT}{self._count:05}", self._count + 1
        if self._keep:
            self._constants[name] = array
        else:
            self.digests.append((name, _array_digest(array)))
        return self._count - 1

    def _expr(self, expr: Expr) -> list[Any]:
        if isinstance(expr, relax.Var):
            return ["var", self._numbers[expr]]
        if isinstance(expr, tvm.ir.GenericConst):
            return ["constant", self._constant(np.asarray(expr.value.numpy()))]
        if isinstance(expr, relax.Call):
            if not isinstance(expr.op, Op) or len(expr.ty_args):
                raise UnknownModuleError(f"a call of {expr.op}")
            args = [self._expr(arg) for arg in expr.args]
            return ["call", str(expr.op.name), args, _options(expr.attrs)]
        if isinstance(expr, relax.Tuple):
            return ["tuple", [self._expr(field) for field in expr.fields]]
        if isinstance(expr, relax.TupleGetItem):
            return ["item", self._expr(expr.tuple_value), int(expr.index)]
        if isinstance(expr, relax.ShapeExpr):
            return ["shape", _sizes(expr.values)]
        return _number(expr)


class _Reader:
    def __init__(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        self._arrays = arrays
        self._text = text_of(arrays)
        self._vars: list[Expr] = []
        self._normalizer = relax.BlockBuilder()

    def module(self) -> Module:
        text = self._text
        params = [self._add(relax.Var(name, _typed(ty))) for name, ty in text["params"]]
        bindings = []
        for name, inside, value in text["bindings"]:
            expr = self._normalizer.normalize(self._expr(value))
            kind = relax.DataflowVar if inside else relax.Var
            bindings.append(relax.VarBinding(self._add(kind(name, expr.ty)), expr))
        body = self._normalizer.normalize(self._expr(text["body"]))
        seq = relax.SeqExpr([relax.DataflowBlock(bindings)], body)
        function = relax.Function(params, seq, ret_ty=body.ty)
        for key, value in text["function"]:
            function = function.with_attr(key, value)
        function = self._normalizer.normalize(function)
        mod = tvm.IRModule({relax.GlobalVar(_MAIN): function})
        for key, value in text["attrs"]:
            mod = mod.with_attr(key, value)
        return mod

    def _add(self, var: Expr) -> Expr:
        self._vars.append(var)
        return var

    def _expr(self, value: Sequence[Any]) -> Expr:
        kind, *parts = value
        if kind == "var":
            return self._vars[parts[0]]
        if kind == "constant":
            return relax.const(self._arrays[f"{_CONSTANT}{parts[0]:05}"])
        if kind == "call":
            name, args, attrs = parts
            return relax.Call(Op.get(name), [self._expr(arg) for arg in args], _attrs(attrs))
        if kind == "tuple":
            return relax.Tuple([self._expr(field) for field in parts[0]])
        if kind == "item":
            return relax.TupleGetItem(self._expr(parts[0]), parts[1])
        if kind == "shape":
            return relax.ShapeExpr(parts[0])
        return _numbered(value)


def _number(expr: Expr) -> list[Any]:
    """Write a number of TVM's."""
    if isinstance(expr, tvm.tirx.IntImm):
        return ["int", int(expr.value), str(expr.ty.dtype)]
    if isinstance(expr, tvm.tirx.FloatImm):
        return ["float", float(expr.value).hex(), str(expr.ty.dtype)]
    raise UnknownModuleError(type(expr).__name__)


def _numbered(value: Sequence[Any]) -> Expr:
    kind, number, dtype = value
    if kind == "int":
        return tvm.tirx.IntImm(dtype, number)
    return tvm.tirx.FloatImm(dtype, float.fromhex(number))


# ---- the options of an operator ------------------------------------------------------------------
def _options(attrs: Any) -> list[Any] | None:
    """Write the attributes of a call: their type, and each field."""
    if attrs is None:
        return None
    own = type(attrs).__tvm_ffi_type_info__
    fields = [(field.name, getattr(attrs, field.name)) for field in own.fields]
    return [str(own.type_key), [[name, _option(value)] for name, value in fields]]


def _attrs(options: Sequence[Any] | None) -> Any:
    if options is None:
        return None
    key, fields = options
    return make_node(key, **{name: _opted(value) for name, value in fields})


def _option(value: Any) -> Any:
    if isinstance(value, tvm_ffi.dtype):
        return {"dtype": str(value)}
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, tvm_ffi.Array):
        return [_option(item) for item in value]
    return {"number": _number(value)}


def _opted(value: Any) -> Any:
    if isinstance(value, list):
        return [_opted(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "dtype" in value:
        return tvm_ffi.dtype(value["dtype"])
    return float.fromhex(value["float"]) if "float" in value else _numbered(value["number"])


def _type(ty: Any) -> list[Any]:
    if not isinstance(ty, relax.TensorType):
        raise UnknownModuleError(type(ty).__name__)
    return [_sizes(ty.shape.values), str(ty.dtype)]


def _typed(value: Sequence[Any]) -> Any:
    return relax.TensorType(value[0], value[1])


def _sizes(values: Sequence[Any]) -> list[int]:
    return [int(getattr(size, "value", size)) for size in values]
