"""Small float CNNs in Relax for the tests of the passes."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import relax

from relay_passes.graph import GraphBuilder


class CNN:
    """Builds a float module operator by operator, with random constants."""

    def __init__(self, shape: tuple[int, ...] = (1, 3, 12, 12), seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = relax.BlockBuilder()
        self.data = relax.Var("data", relax.TensorType(shape, "float32"))
        self.pending: list[tuple[str, Any]] = []

    def const(self, *shape: int, scale: float = 0.3) -> Any:
        return relax.const(self.rng.normal(0, scale, shape).astype(np.float32))

    def conv(
        self, x: Any, out: int, kernel: int = 3, *, bias: bool = True, groups: int = 1, **kw: Any
    ) -> Any:
        channels = int(x.ty.shape.values[1])
        weight = self.const(out, channels // groups, kernel, kernel)
        kw.setdefault("padding", (kernel // 2,) * 4)
        y = self.emit(relax.op.nn.conv2d(x, weight, groups=groups, **kw))
        return self.emit(relax.op.add(y, self.const(1, out, 1, 1))) if bias else y

    def batch_norm(self, x: Any, *, training: bool = False) -> Any:
        channels = int(x.ty.shape.values[1])
        mean, beta = self.const(channels), self.const(channels)
        variance = relax.const(self.rng.uniform(0.5, 2, channels).astype(np.float32))
        gamma = relax.const(self.rng.uniform(0.5, 2, channels).astype(np.float32))
        call = relax.op.nn.batch_norm(
            x, gamma, beta, mean, variance, axis=1, epsilon=1e-5, training=training
        )
        return self.emit(relax.TupleGetItem(self.emit(call), 0))

    def relu(self, x: Any) -> Any:
        return self.emit(relax.op.nn.relu(x))

    def add(self, x: Any, y: Any) -> Any:
        return self.emit(relax.op.add(x, y))

    def head(self, x: Any, classes: int = 7) -> Any:
        """Global average pool, dense and bias."""
        batch, channels = (int(v) for v in x.ty.shape.values[:2])
        x = self.emit(relax.op.mean(x, axis=[2, 3], keepdims=True))
        x = self.emit(relax.op.reshape(x, (batch, channels)))
        x = self.emit(relax.op.matmul(x, self.const(channels, classes)))
        return self.emit(relax.op.add(x, self.const(classes)))

    def emit(self, expr: Any) -> Any:
        """Normalize `expr` and bind it; the block is made by `module`."""
        expr = self.builder.normalize(expr)
        var = relax.DataflowVar(f"lv{len(self.pending)}", expr.ty)
        self.pending.append((var, expr))
        return var

    def module(self, *results: Any) -> Any:
        graph = GraphBuilder()
        graph.bindings = [relax.VarBinding(var, expr) for var, expr in self.pending]
        function = graph.function([self.data], results, {"global_symbol": "main"})
        return tvm.IRModule({relax.GlobalVar("main"): function})


def residual_net(*, seed: int = 0) -> Any:
    """Stem with BatchNorm, max-pool, a residual block with projection, head."""
    net = CNN(seed=seed)
    x = net.relu(net.batch_norm(net.conv(net.data, 8, bias=False)))
    x = net.emit(relax.op.nn.max_pool2d(x, (2, 2), (2, 2)))
    y = net.relu(net.batch_norm(net.conv(x, 16, bias=True, strides=(2, 2))))
    y = net.batch_norm(net.conv(y, 16, bias=False))
    skip = net.batch_norm(net.conv(x, 16, 1, bias=False, strides=(2, 2)))
    x = net.relu(net.add(y, skip))
    y = net.conv(net.relu(net.conv(x, 16)), 16)
    x = net.relu(net.add(x, y))
    return net.module(net.head(x))


def joined_net(*, signed: bool = False) -> Any:
    """Return a net that joins a map, its half enlarged again, a map of its own and a sum."""
    net = CNN(seed=3)
    first = net.relu(net.conv(net.data, 8))
    half = net.emit(relax.op.nn.max_pool2d(first, (2, 2), (2, 2)))
    large = net.emit(relax.op.image.resize2d(half, (12, 12), method="nearest_neighbor"))
    other = net.conv(first, 8)
    total = net.relu(net.add(net.conv(first, 8), first))
    parts = [large, other if signed else net.relu(other), total]
    both = net.emit(relax.op.concat(parts, axis=1))
    padded = net.emit(relax.op.nn.pad(both, [0, 0, 0, 0, 0, 1, 0, 1]))
    taken = net.emit(relax.op.strided_slice(padded, [1], [4], [20]))
    return net.module(net.head(net.relu(net.conv(taken, 8))))


def images(count: int = 3, shape: tuple[int, ...] = (1, 3, 12, 12), seed: int = 1) -> list[Any]:
    """Random calibration images."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 1, shape).astype(np.float32) for _ in range(count)]
