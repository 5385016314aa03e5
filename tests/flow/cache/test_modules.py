"""Relax modules come back exactly: values, names, attributes, programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from flow.cache.modules import UnknownModuleError, digest_of, module_digest, packed, unpacked
from relay_passes.graph import GraphBuilder, read_graph


def small(
    *,
    low: float = -0.1,
    first: int = 1,
    pool: int = 3,
    bias: float = 0.1,
    shape: tuple[int, ...] = (1, 32),
    name: str = "sum",
    note: str = "a",
    inputs: int = 1,
) -> Any:
    """Return a module with numbers, tuples, shapes, options and constants."""
    builder = GraphBuilder()
    x = relax.Var("x:0", relax.TensorType((1, 2, 4, 4), "float32"))
    a = builder.emit(relax.op.clip(x, low, 3), "layer.1/clip")
    b = builder.emit(relax.op.split(a, 2, axis=1), "parts")
    items = [builder.emit(relax.TupleGetItem(b, i), "item") for i in (first, 0)]
    c = builder.emit(relax.op.concat(items, axis=1), "same name")
    d = builder.emit(relax.op.nn.max_pool2d(c, (pool, pool), padding=(1, 1)), "same name")
    e = builder.emit(relax.op.add(d, relax.const(bias, "float32")), name)
    e = builder.emit(relax.op.astype(e, "float32"), "cast")
    values = 2 * (7 - pool) ** 2
    f = builder.emit(relax.op.reshape(e, shape if pool == 3 else (1, values)), "flat")
    function = builder.function([x], [e, f], {"global_symbol": "main", "num_input": inputs})
    return tvm.IRModule({relax.GlobalVar("main"): function}).with_attr("note", note)


Small = small()


def names(mod: Any) -> list[str]:
    return [str(binding.var.name) for binding in read_graph(mod).bindings]


def test_a_module_comes_back() -> None:
    found = unpacked(packed(Small))
    tvm.ir.assert_structural_equal(found, Small)
    assert names(found) == names(Small)
    assert dict(found.attrs.items()) == dict(Small.attrs.items())
    assert module_digest(found) == module_digest(Small) == digest_of(packed(Small))


@pytest.mark.parametrize(
    "change",
    [
        {"low": -0.2}, {"first": 0}, {"pool": 2}, {"bias": 0.2}, {"shape": (32, 1)},
        {"name": "other"}, {"note": "b"}, {"inputs": 2},
    ],
)  # fmt: skip
def test_everything_counts(change: dict[str, Any]) -> None:
    other = small(**change)
    assert module_digest(other) != module_digest(Small)
    tvm.ir.assert_structural_equal(unpacked(packed(other)), other)


def function_with(binding: Any, x: Any) -> Any:
    block = relax.DataflowBlock([binding])
    function = relax.Function([x], relax.SeqExpr([block], binding.var), ret_ty=binding.var.ty)
    return tvm.IRModule({relax.GlobalVar("main"): function})


def test_what_is_not_kept() -> None:
    x = relax.Var("x", relax.TensorType((2,), "float32"))
    call = relax.Call(relax.ExternFunc("f"), [x], ty_args=[x.ty])
    var = relax.Var("y", x.ty)
    with pytest.raises(UnknownModuleError, match="a call of"):
        packed(function_with(relax.VarBinding(var, call), x))
    with pytest.raises(UnknownModuleError, match="functions other"):
        module_digest(tvm.IRModule({relax.GlobalVar("other"): Small["main"]}))
    with pytest.raises(UnknownModuleError, match="attribute odd"):
        module_digest(Small.with_attr("odd", [1, 2]))


def test_damaged_modules_raise() -> None:
    arrays = packed(Small)
    with pytest.raises((TypeError, KeyError)):
        unpacked({name: array for name, array in arrays.items() if name == "constant-00000"})
    with pytest.raises(KeyError):
        unpacked({"json": arrays["json"]})
    with pytest.raises((TypeError, KeyError, IndexError, ValueError)):
        unpacked({**arrays, "json": np.frombuffer(b"[]", np.uint8)})
