"""Compare a module that a pass made with the text of the module that it must make.

The text is TVMScript. It says everything: operators, attributes, types, constants and names. Names
of tensors have points, which Python's have not: ``conv1.acc`` is written ``conv1_acc``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import tvm
from tvm import relax

from relay_passes.graph import rewrite


def assert_same(actual: Any, expected: Any) -> None:
    """Check that two modules have the same functions; attributes of a module are not looked at."""
    tvm.ir.assert_structural_equal(functions(actual), functions(expected))
    assert names(actual) == names(expected)


def assert_becomes(change: Callable[[Any], Any], before: Any, expected: Any) -> None:
    """Check that `change` makes `expected` of `before`; that changing nothing would not pass."""
    with pytest.raises((AssertionError, ValueError)):
        assert_same(before, expected)
    assert_same(change(before), expected)


def named(mod: Any, tensors: Iterable[str]) -> Any:
    """Return a module of text whose tensors have their names with points."""
    points = {name.replace(".", "_"): name for name in tensors}
    return rewrite(
        mod, lambda builder, var, value: builder.emit(value, points.get(var.name, var.name))
    )


def functions(mod: Any) -> Any:
    """Return a module of the same functions alone."""
    return tvm.IRModule({g: mod[g] for g in mod.get_global_vars()})


def names(mod: Any) -> dict[str, list[str]]:
    """Return the names of each function's parameters and tensors, as Python can write them."""
    return {g.name_hint: names_of(mod[g]) for g in mod.get_global_vars()}


def names_of(function: Any) -> list[str]:
    """Return the names in a function, those in the functions that it binds included."""
    found = [str(var.name) for var in function.params]
    for block in function.body.blocks:
        for binding in block.bindings:
            found.append(str(binding.var.name))
            if isinstance(binding.value, relax.Function):
                found += names_of(binding.value)
    return [name.replace(".", "_") for name in found]
