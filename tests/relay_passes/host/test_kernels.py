"""Machine code that modules share: the same numbers, and nothing compiled twice."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax

from relay_passes.host.kernels import KernelCache
from relay_passes.host.run import host_target
from tests.relay_passes.models import CNN

PLAIN = tvm.target.Target("llvm")


def shifted(shift: int, *, channels: int = 4, dtype: str = "int8") -> Any:
    """Return a module: an int8 convolution, a shift and a clip, twice."""
    net = CNN((1, channels, 9, 7))
    net.data = relax.Var("data", relax.TensorType((1, channels, 9, 7), "int8"))
    rng = np.random.default_rng(channels)
    weight = relax.const(rng.integers(-128, 128, (channels, channels, 3, 3)).astype(np.int8))
    x = net.data
    for _ in range(2):
        x = net.emit(relax.op.nn.conv2d(x, weight, padding=(1, 1), out_dtype="int32"))
        x = net.emit(relax.op.right_shift(x, relax.const(np.int32(shift))))
        x = net.emit(relax.op.astype(net.emit(relax.op.clip(x, -128, 127)), "int8"))
    return net.module(x)


def run(executable: Any, *arrays: Any) -> Any:
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return machine["main"](*map(tvm.runtime.tensor, arrays)).numpy()


def built(cache: KernelCache, mod: Any) -> Any:
    return cache.build(mod, floats=PLAIN, integers=host_target())


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the numbers of kernels that are compiled, in order."""
    counts: list[int] = []
    compiled = tvm.tirx.build

    def counting(mod: Any, **kwargs: Any) -> Any:
        counts.append(len(mod.functions))
        return compiled(mod, **kwargs)

    monkeypatch.setattr(tvm.tirx, "build", counting)
    return counts


@pytest.mark.parametrize("channels", [1, 4, 19])
def test_results_are_those_of_tvm_alone(channels: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (1, channels, 9, 7)).astype(np.int8)
    cache = KernelCache()
    for shift in (0, 5, 9):
        mod = shifted(shift, channels=channels)
        want = run(tvm.compile(mod, target="llvm"), x)
        np.testing.assert_array_equal(run(built(cache, mod), x), want)


def test_a_second_module_brings_no_kernel_that_is_known(compilations: list[int]) -> None:
    cache = KernelCache()
    built(cache, shifted(5))
    first = sum(compilations)
    assert first == 4  # both layers have the same convolution, shift, clip and conversion
    built(cache, shifted(7))  # another shift is another operand
    assert sum(compilations) == first
    built(cache, shifted(7, channels=5))
    assert sum(compilations) == 2 * first


def test_a_full_cache_begins_anew(compilations: list[int]) -> None:
    cache = KernelCache(most=3)
    first, x = shifted(5), np.ones((1, 4, 9, 7), np.int8)
    want = run(built(cache, first), x)
    np.testing.assert_array_equal(run(built(cache, first), x), want)
    assert compilations == [4, 4]


def test_floats_are_rounded_as_the_target_says() -> None:
    rng = np.random.default_rng(0)
    net = CNN((1, 8, 9, 7))
    weight = relax.const(rng.normal(size=(8, 8, 3, 3)).astype(np.float32))
    y = net.emit(relax.op.nn.conv2d(net.data, weight))
    y = net.emit(relax.op.multiply(y, relax.const(np.float32(0.3))))
    mod = net.module(net.emit(relax.op.add(relax.const(np.float32(0.7)), y)))
    x = rng.normal(size=(1, 8, 9, 7)).astype(np.float32)
    cache = KernelCache()
    for target in (PLAIN, host_target()):
        want = run(tvm.compile(mod, target=target), x)
        got = run(cache.build(mod, floats=target, integers=host_target()), x)
        np.testing.assert_array_equal(got, want)


def test_numbers_alone_stay_numbers() -> None:
    net = CNN((1, 1, 2, 2))
    net.data = relax.Var("data", relax.TensorType((), "float32"))
    mod = net.module(net.emit(relax.op.add(net.data, relax.const(np.float32(2)))))
    assert run(built(KernelCache(), mod), np.array(1, np.float32)) == 3
