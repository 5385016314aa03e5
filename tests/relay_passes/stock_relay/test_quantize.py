"""Stock Relay quantization: golden logits and graphs, then each rule against plain arithmetic."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from relay_passes.host.run import compile_for_host
from relay_passes.stock_relay.fold_scales import fold_scales
from relay_passes.stock_relay.nodes import Node, post_order, read_nodes
from relay_passes.stock_relay.options import StockOptions
from relay_passes.stock_relay.quantize import StockRelay
from tests.relay_passes.stock_relay.models import model, ops, quantized, random, run, weights

SETTINGS = {
    "gs8_skip0": StockOptions(),
    "gs8_noskip": StockOptions(skip_conv_layers=()),
    "gs4_noskip": StockOptions(skip_conv_layers=(), global_scale=4.0),
    "gs8_noround": StockOptions(round_for_shift=False),
}
op = relax.op


# ------------------------------------------------------------------------------------------- golden


def load(shared_data: Path, name: str) -> tuple[Any, Any]:
    folder = shared_data / "golden" / "stock_relay"
    mod = from_onnx(onnx.load(str(folder / f"{name}.onnx")))
    return mod, np.load(folder / f"{name}.npz")


@pytest.mark.slow
@pytest.mark.parametrize("key", SETTINGS)
@pytest.mark.parametrize("name", ["tiny", "resnet18_w16_32px"])
def test_golden_logits_are_reproduced(shared_data: Path, name: str, key: str) -> None:
    mod, golden = load(shared_data, name)
    machine = relax.VirtualMachine(
        compile_for_host(StockRelay(SETTINGS[key])(mod), "llvm"), tvm.cpu()
    )
    logits = [machine["main"](tvm.runtime.tensor(x[None])).numpy()[0] for x in golden["x"]]
    np.testing.assert_allclose(np.stack(logits), golden[key], rtol=1e-6, atol=1e-6)


RELAY_OPS = {
    "nn.conv2d": "conv2d",
    "nn.relu": "relu",
    "nn.max_pool2d": "max_pool2d",
    "nn.global_avg_pool2d": "global_avg_pool2d",
    "nn.batch_flatten": "reshape",
    "nn.dense": "dense",
}
LINE = re.compile(r"^(?:%(\d+) = )?([\w.]+)\((.*)\) /\* ty=Tensor\[\((.*?)\), (\w+)\] \*/;?$")
CONSTANT = re.compile(r"meta\[relay.Constant\]\[\d+\] /\* ty=Tensor\[\((.*?)\), (\w+)\] \*/")
SCALAR = re.compile(r"(?<= )(-?[\d.e-]+)f? /\* ty=(\w+) \*/")


OPERAND = re.compile(r"%(\d+|data)|" + CONSTANT.pattern + "|" + SCALAR.pattern)


class Forms:
    """Names for expressions: equal structure, equal name; casts that change nothing vanish."""

    def __init__(self) -> None:
        self.known: dict[Any, int] = {}

    def name(self, *form: Any) -> int:
        return self.known.setdefault(form, len(self.known))

    def constant(self, shape: list[int], dtype: str) -> int:
        return self.name("const", tuple(sorted(n for n in shape if n != 1)), dtype)

    def of_relay(self, text: str) -> int:
        """Return the name of a printed Relay function's result."""
        values: dict[str, tuple[int, str]] = {}
        result = -1
        for line in text.splitlines():
            match = LINE.match(line.strip())
            if not match:
                continue
            number, relay_op, inside, _, dtype = match.groups()
            args: list[tuple[int, str]] = []
            for part in re.finditer(
                r"%(\d+|data)|" + CONSTANT.pattern + "|" + SCALAR.pattern, inside
            ):
                ref, shape, constant_type, scalar, scalar_type = part.groups()
                if ref == "data":
                    args.append((self.name("var"), "float32"))
                elif ref:
                    args.append(values[ref])
                elif scalar is None:
                    dims = [int(n) for n in shape.split(",") if n.strip()]
                    args.append((self.constant(dims, constant_type), constant_type))
                else:
                    args.append((self.name("scalar", float(scalar), scalar_type), scalar_type))
            if relay_op == "annotation.stop_fusion" or (relay_op, dtype) == ("cast", args[0][1]):
                form = args[0][0]
            else:
                name = RELAY_OPS.get(relay_op, relay_op)
                extra = tuple(re.findall(r"a_m\w\w=(-?[\d.]+)f", inside))
                form = self.name(name, dtype, tuple(map(float, extra)), *(a for a, _ in args))
            values[number or ""] = (form, dtype)
            result = form
        return result

    def of_graph(self, root: Node) -> int:
        """Return the name of a graph's result; float -> int8 -> int32 counts as one cast."""
        names: dict[Node, int] = {}
        for node in post_order(root):
            args = node.args
            if node.op == "cast" and args[0].op == "cast" and args[0].args[0].dtype == "float32":
                args = args[0].args
            if node.op == "var":
                names[node] = self.name("var")
            elif node.value is not None and node.value.ndim == 0:
                names[node] = self.name("scalar", float(node.value), node.dtype)
            elif node.value is not None:
                names[node] = self.constant(list(node.value.shape), node.dtype)
            else:
                bounds = tuple(map(float, node.attrs.get("bounds", ())))
                names[node] = self.name(node.op, node.dtype, bounds, *(names[a] for a in args))
        return names[root]


@pytest.mark.parametrize(
    ("name", "key"), [*(("tiny", key) for key in SETTINGS), ("resnet18_w16_32px", "gs8_skip0")]
)
def test_golden_graphs_are_reproduced(shared_data: Path, name: str, key: str) -> None:
    mod, _ = load(shared_data, name)
    text = (shared_data / "golden" / "stock_relay" / f"{name}.{key}.relay.txt").read_text()
    forms = Forms()
    expected = forms.of_relay(text)
    count = len(forms.known)
    assert forms.of_graph(quantized(mod, SETTINGS[key])) == expected
    assert len(forms.known) == count > 40


# ------------------------------------------------------------------------- against plain arithmetic


def fixed_point(value: int, factor: float, rounding: str) -> int:
    """value · factor as Relay does it, from the definition."""
    mantissa, shift = math.frexp(factor)
    multiplier = math.floor(Fraction(mantissa) * 2**31 + Fraction(1, 2))
    exact = Fraction(value * multiplier) * Fraction(2) ** (shift - 31)
    if rounding == "UPWARD" or exact >= 0:
        return math.floor(exact + Fraction(1, 2))
    return math.ceil(exact - Fraction(1, 2))


def half_away(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * np.floor(np.abs(x.astype(np.float64)) + 0.5)


def rescale(acc: np.ndarray, old: float, new: float, options: StockOptions) -> np.ndarray:
    factor = np.float32(np.float32(old) / np.float32(new))
    shift = math.log2(factor)
    if shift.is_integer() and shift >= 0:
        return acc << int(shift)
    if shift.is_integer():
        half = (1 << (int(-shift) - 1)) if options.round_for_shift else 0
        return (acc + half) >> int(-shift)
    if float(factor).is_integer():
        return acc * int(factor)
    flat = [fixed_point(int(v), float(factor), options.rounding) for v in acc.ravel()]
    return np.array(flat, np.int64).reshape(acc.shape)


def weight_ints(w: np.ndarray, options: StockOptions) -> tuple[np.ndarray, float]:
    top = float(np.abs(w).max())
    if options.weight_scale == "power2":
        top = 2.0 ** math.ceil(math.log2(top))
    scale = np.float32(top / 2 ** (options.nbit_weight - 1))
    limit = 2 ** (options.nbit_weight - 1) - 1
    ints = np.clip(half_away(w * (np.float32(1) / scale)), -limit, limit)
    return ints.astype(np.int64), float(scale)


def reference(x: np.ndarray, layers: list[tuple[np.ndarray, np.ndarray]], o: StockOptions) -> Any:
    """Two 1×1 convolutions with bias, ReLU between: matrices [C, pixels] of Python integers."""
    limit = 2 ** (o.nbit_input - 1) - 1
    scale = np.float32(o.global_scale / 2 ** (o.nbit_input - 1))
    q = np.clip(half_away(x * (np.float32(1) / scale)), -limit, limit).astype(np.int64)
    for w, b in layers:
        (wq, ws), (bq, bs) = weight_ints(w, o), weight_ints(b, o)
        acc, acc_scale = wq @ q, float(np.float32(scale * np.float32(ws)))
        fine = min(acc_scale, bs)
        acc = rescale(acc, acc_scale, fine, o) + rescale(bq, bs, fine, o)[:, None]
        if w is layers[0][0]:
            acc = np.maximum(acc, 0)
        q = np.clip(rescale(acc, fine, float(scale), o), -limit, limit)
    return q.astype(np.float32) * scale


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"round_for_shift": False},
        {"global_scale": 4.0, "nbit_weight": 4},
        {"nbit_input": 6},
        {"weight_scale": "max"},
        {"weight_scale": "max", "rounding": "TONEAREST"},
        {"weight_scale": "max", "nbit_weight": 5, "global_scale": 3.0},
        {"global_scale": 3.0},
        {"global_scale": 5.5, "rounding": "TONEAREST", "round_for_shift": False},
        {"nbit_input": 12, "dtype_input": "int16", "nbit_weight": 10, "dtype_weight": "int16"},
    ],
    ids=str,
)
def test_options_give_the_integers_of_plain_arithmetic(options: Any, seed: int) -> None:
    chosen = StockOptions(skip_conv_layers=(), **options)
    w1, b1 = random(6, 5, seed=seed + 10, scale=0.4), random(6, seed=seed + 20, scale=0.05)
    w2, b2 = random(4, 6, seed=seed + 30, scale=0.2), random(4, seed=seed + 40, scale=2.0)
    x = random(5, 49, seed=seed, scale=2.0)

    def body(emit: Any, data: Any) -> Any:
        for w, b in ((w1, b1), (w2, b2)):
            data = emit(op.nn.conv2d(data, relax.const(w[:, :, None, None])))
            data = emit(op.add(data, relax.const(b.reshape(1, -1, 1, 1))))
            if w is w1:
                data = emit(op.nn.relu(data))
        return data

    mod = StockRelay(chosen)(model((1, 5, 7, 7), body))
    expected = reference(x, [(w1, b1), (w2, b2)], chosen)
    result = run(mod, x.reshape(1, 5, 7, 7)).reshape(4, 49)
    np.testing.assert_array_equal(result, expected)
    assert len(np.unique(result)) > 8


def test_input_rounds_half_away_from_zero() -> None:
    eye = relax.const(np.eye(1, dtype=np.float32).reshape(1, 1, 1, 1))
    mod = model((1, 1, 1, 8), lambda emit, x: emit(op.nn.conv2d(x, eye)))
    below = np.nextafter(np.float32(0.5), np.float32(0))
    steps = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, below, -below], np.float32)
    result = run(StockRelay(StockOptions(skip_conv_layers=()))(mod), (steps / 16)[None, None, None])
    # weight 1 -> scale 2^0/128, clipped to 127/128; x·127/128 rounds back to x
    assert (result.ravel() * 16).tolist() == [-3, -2, -1, 1, 2, 3, 0, 0]


# -------------------------------------------------------------------------------------------- rules


def residual(emit: Any, data: Any, *, swap: bool = False) -> Any:
    """conv0 -> relu -> (conv1, conv2) -> add -> global pool."""
    stem = emit(op.nn.relu(emit(op.nn.conv2d(data, weights(4, 3, 1, 1), out_dtype="float32"))))
    first = emit(op.nn.conv2d(stem, weights(4, 4, 1, 1, seed=1)), name_hint="first")
    second = emit(op.nn.conv2d(stem, weights(4, 4, 1, 1, seed=2)), name_hint="second")
    total = emit(op.add(second, first) if swap else op.add(first, second))
    return emit(op.mean(total, axis=[2, 3], keepdims=True))


@pytest.mark.parametrize(("swap", "skipped"), [(False, "first"), (True, "second")])
def test_convolutions_are_counted_operands_first_not_in_program_order(
    swap: bool, skipped: str
) -> None:
    mod = model((1, 3, 4, 4), lambda emit, x: residual(emit, x, swap=swap))
    graph = quantized(mod, StockOptions(skip_conv_layers=(1,)))
    floats = [n.name for n in post_order(graph) if n.op == "conv2d" and n.dtype == "float32"]
    assert floats == [skipped]


def test_last_residual_sum_wraps_and_the_pool_truncates() -> None:
    eye = relax.const(np.eye(2, dtype=np.float32).reshape(2, 2, 1, 1))

    def body(emit: Any, x: Any) -> Any:
        total = emit(op.add(emit(op.nn.conv2d(x, eye)), emit(op.nn.conv2d(x, eye))))
        return emit(op.mean(total, axis=[2, 3], keepdims=True))

    mod = StockRelay(StockOptions(skip_conv_layers=()))(model((1, 2, 1, 4), body))
    data = np.array([[6.0, 6.0, 6.0, 6.0], [-1.0, -1.0, -1.0, -1.125]], np.float32)
    # 6.0 -> 96 · 127/128 -> 95; 95 + 95 = 190 wraps to −66. −16 · 127/128 -> −16; −18 -> −18:
    # sums −32, −32, −32, −36: −132 / 4 = −33 exactly; data below makes it truncate
    result = run(mod, data.reshape(1, 2, 1, 4)).ravel() * 16
    assert result.tolist() == [-66, -33]
    data[1, 3] = -1.0625  # −17 -> −17: −130 / 4 = −32.5, towards zero −32
    assert (run(mod, data.reshape(1, 2, 1, 4)).ravel() * 16).tolist() == [-66, -32]


@pytest.mark.parametrize(("skip", "dtype"), [(True, "float32"), (False, "int32")])
def test_dense_layer_is_quantized_on_request_without_a_global_pool(skip: bool, dtype: str) -> None:
    def body(emit: Any, x: Any) -> Any:
        conv = emit(op.nn.conv2d(x, weights(4, 3, 1, 1)))
        flat = emit(op.reshape(conv, (1, 64)))
        out = emit(op.matmul(flat, weights(64, 10, seed=3)))
        return emit(op.add(out, relax.const(random(10, seed=4))))

    mod = model((1, 3, 4, 4), body)
    graph = quantized(mod, StockOptions(skip_dense_layer=skip))
    assert [n.dtype for n in post_order(graph) if n.op == "dense"] == [dtype]
    x = random(1, 3, 4, 4, seed=5)
    result = run(StockRelay(StockOptions(skip_dense_layer=skip))(mod), x)
    assert np.abs(result - run(mod, x)).max() < 0.3


def test_nothing_is_quantized_after_a_global_pool() -> None:
    def body(emit: Any, x: Any) -> Any:
        pooled = emit(op.mean(emit(op.nn.conv2d(x, weights(4, 3, 1, 1))), [2, 3], keepdims=True))
        return emit(op.nn.conv2d(pooled, weights(4, 4, 1, 1, seed=1)))

    graph = quantized(model((1, 3, 4, 4), body), StockOptions(skip_conv_layers=None))
    assert [n.dtype for n in post_order(graph) if n.op == "conv2d"] == ["int32", "float32"]


def test_clip_limits_move_to_the_scale_of_the_integers() -> None:
    def body(emit: Any, x: Any) -> Any:
        conv = emit(op.nn.conv2d(x, relax.const(np.full((2, 3, 1, 1), 0.75, np.float32))))
        return emit(op.nn.conv2d(emit(op.clip(conv, 0, 6)), weights(2, 2, 1, 1)))

    graph = quantized(model((1, 3, 4, 4), body), StockOptions(skip_conv_layers=()))
    bounds = [n.attrs["bounds"] for n in post_order(graph) if n.op == "clip"]
    # input; 6 / (1/16 · 1/128) = 12288; requantized; output
    assert bounds == [(-127, 127), (0, 12288), (-127, 127), (-127, 127)]


def test_concatenation_of_two_stays_in_eight_bits_of_three_goes_through_thirty_two() -> None:
    def body(emit: Any, x: Any, count: int) -> Any:
        stem = emit(op.nn.conv2d(x, weights(4, 3, 1, 1)))
        parts = [emit(op.nn.conv2d(stem, weights(4, 4, 1, 1, seed=s))) for s in range(count)]
        joined = emit(op.concat(parts, axis=1))
        return emit(op.nn.conv2d(joined, weights(4, 4 * count, 1, 1, seed=9)))

    x = random(1, 3, 4, 4)
    for count, dtype in ((2, "int8"), (3, "int32")):
        mod = model((1, 3, 4, 4), lambda emit, x, count=count: body(emit, x, count))
        options = StockOptions(skip_conv_layers=())
        joins = [n for n in post_order(quantized(mod, options)) if n.op == "concatenate"]
        assert [n.dtype for n in joins] == [dtype]
        result = run(StockRelay(options)(mod), x)
        assert np.abs(result - run(mod, x)).max() < 0.25


def test_average_pool_and_maximum_pool_of_integers() -> None:
    def body(emit: Any, x: Any) -> Any:
        conv = emit(op.nn.conv2d(x, weights(4, 3, 1, 1)))
        pooled = emit(op.nn.max_pool2d(conv, (2, 2), (2, 2)))
        pooled = emit(op.nn.avg_pool2d(pooled, (2, 2), (2, 2)))
        return emit(op.nn.conv2d(pooled, weights(4, 4, 1, 1, seed=1)))

    mod = model((1, 3, 8, 8), body)
    graph = quantized(mod, StockOptions(skip_conv_layers=()))
    kinds = {n.op: n.dtype for n in post_order(graph) if "pool" in n.op}
    assert kinds == {"max_pool2d": "int8", "avg_pool2d": "int32"}
    x = random(1, 3, 8, 8)
    result = run(StockRelay(StockOptions(skip_conv_layers=()))(mod), x)
    assert np.abs(result - run(mod, x)).max() < 0.25


def test_unknown_operator_gets_floats_again() -> None:
    def body(emit: Any, x: Any) -> Any:
        return emit(op.sigmoid(emit(op.nn.conv2d(x, weights(4, 3, 1, 1)))))

    graph = quantized(model((1, 3, 4, 4), body), StockOptions(skip_conv_layers=()))
    assert ops(graph)[-5:] == ["clip", "cast", "cast", "multiply", "other"]


def test_batch_norm_folds_in_relays_float32_steps() -> None:
    gamma, beta, mean = (random(4, seed=s) for s in (1, 2, 3))
    variance = np.abs(random(4, seed=4)) + np.float32(0.1)
    weight = random(4, 3, 1, 1)

    def body(emit: Any, x: Any) -> Any:
        conv = emit(op.nn.conv2d(x, relax.const(weight)))
        norm = [relax.const(v) for v in (gamma, beta, mean, variance)]
        tuple_ = emit(op.nn.batch_norm(conv, *norm, axis=1, epsilon=1e-5, training=False))
        return emit(op.nn.relu(emit(relax.TupleGetItem(tuple_, 0))))

    mod = model((1, 3, 4, 4), body)
    graph = fold_scales(read_nodes(mod))
    assert ops(graph) == ["conv2d", "add", "relu"]
    scale = np.float32(1) / np.sqrt(variance + np.float32(1e-5)) * gamma
    constants = [n.value for n in post_order(graph) if n.value is not None]
    np.testing.assert_array_equal(constants[0], weight * scale.reshape(4, 1, 1, 1))
    np.testing.assert_array_equal(constants[1].ravel(), -mean * scale + beta)


def preactivation(factor: np.ndarray, *, relu: bool, shared: bool = False) -> Any:
    """x · factor + bias -> (relu) -> two convolutions; shared: the product is a result as well."""

    def body(emit: Any, x: Any) -> Any:
        pooled = emit(op.nn.max_pool2d(x, (2, 2), (2, 2)))
        product = emit(op.multiply(pooled, relax.const(factor.reshape(1, 3, 1, 1))))
        data = emit(op.add(product, relax.const(random(1, 3, 1, 1, seed=1))))
        data = emit(op.nn.relu(data)) if relu else data
        depthwise = emit(op.nn.conv2d(data, weights(3, 1, 1, 1, seed=2), groups=3))
        full = emit(op.nn.conv2d(data, weights(3, 3, 1, 1, seed=3)))
        total = emit(op.add(depthwise, full))
        return emit(op.add(total, product)) if shared else total

    return model((1, 3, 4, 4), body)


@pytest.mark.parametrize(
    ("factor", "relu", "shared", "folds"),
    [
        ((2, 3, 5), True, False, True),
        ((2, -3, 5), False, False, True),
        ((2, -3, 5), True, False, False),
        ((2, 3, 5), True, True, False),
    ],
)
def test_factor_moves_on_into_all_convolutions_that_read_it(
    factor: tuple[int, ...], relu: bool, shared: bool, folds: bool
) -> None:
    mod = preactivation(np.array(factor, np.float32), relu=relu, shared=shared)
    graph = fold_scales(read_nodes(mod))
    assert ("multiply" in ops(graph)) is not folds
    if folds:
        bias = next(n.args[1].value for n in post_order(graph) if n.op == "add")
        expected = random(1, 3, 1, 1, seed=1) / np.array(factor, np.float32).reshape(1, 3, 1, 1)
        np.testing.assert_array_equal(bias, expected)
    x = random(1, 3, 4, 4)
    result = run(StockRelay(StockOptions(skip_conv_layers=(0, 1)))(mod), x)
    np.testing.assert_allclose(result, run(mod, x), rtol=1e-5, atol=1e-5)


def scaled_model(factor: np.ndarray, *, relu: bool) -> Any:
    def body(emit: Any, x: Any) -> Any:
        conv = emit(op.nn.conv2d(x, weights(2, 3, 1, 1)))
        conv = emit(op.add(conv, relax.const(random(1, 2, 1, 1, seed=1))))
        conv = emit(op.nn.relu(conv)) if relu else conv
        return emit(op.multiply(conv, relax.const(factor.reshape(1, 2, 1, 1))))

    return model((1, 3, 4, 4), body)


@pytest.mark.parametrize(
    ("factor", "relu", "folds"),
    [((2, -3), False, True), ((2, 3), True, True), ((2, -3), True, False)],
)
def test_factor_moves_into_the_weights_through_relu_only_when_positive(
    factor: tuple[int, int], relu: bool, folds: bool
) -> None:
    mod = scaled_model(np.array(factor, np.float32), relu=relu)
    graph = fold_scales(read_nodes(mod))
    assert ("multiply" in ops(graph)) is not folds
    x = random(1, 3, 4, 4)
    float_again = StockRelay(StockOptions(skip_conv_layers=(0,)))(mod)
    np.testing.assert_allclose(run(float_again, x), run(mod, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("between", ["max_pool2d", "reshape", None])
def test_shared_int8_tensors_are_not_clipped_again(between: str | None) -> None:
    """Relay clips what has two users once more; where that changes nothing it is not written."""

    def body(emit: Any, x: Any) -> Any:
        stem = emit(op.nn.relu(emit(op.nn.conv2d(x, weights(4, 3, 1, 1)))))
        if between == "max_pool2d":
            stem = emit(op.nn.max_pool2d(stem, (2, 2), (2, 2)))
        elif between == "reshape":
            stem = emit(op.reshape(stem, (1, 4, 2, 8)))
        first = emit(op.nn.conv2d(stem, weights(4, 4, 1, 1, seed=1)))
        return emit(op.add(emit(op.nn.conv2d(first, weights(4, 4, 1, 1, seed=2))), stem))

    mod = model((1, 3, 4, 4), body)
    graph = quantized(mod, StockOptions(skip_conv_layers=()))
    clips = [n for n in post_order(graph) if n.op == "clip" and n.dtype == "int8"]
    assert not clips
    x = random(1, 3, 4, 4)
    result = run(StockRelay(StockOptions(skip_conv_layers=()))(mod), x)
    assert np.abs(result - run(mod, x)).max() < 0.25


def test_zero_bias_stays_zero() -> None:
    def body(emit: Any, x: Any) -> Any:
        conv = emit(op.nn.conv2d(x, weights(2, 3, 1, 1)))
        return emit(op.add(conv, relax.const(np.zeros((1, 2, 1, 1), np.float32))))

    for weight_scale in ("power2", "max"):
        options = StockOptions(skip_conv_layers=(), weight_scale=weight_scale)
        result = run(StockRelay(options)(model((1, 3, 2, 2), body)), np.zeros((1, 3, 2, 2), "f4"))
        assert not result.any()


def test_written_module_keeps_parameters_and_names_tensors_after_their_layers() -> None:
    def body(emit: Any, x: Any) -> Any:
        first = emit(op.nn.conv2d(x, weights(2, 3, 1, 1)), name_hint="conv1")
        total = emit(op.add(first, relax.const(random(1, 2, 1, 1))), name_hint="bias1")
        return emit(op.nn.conv2d(total, weights(2, 2, 1, 1)), name_hint="conv2")

    mod = StockRelay(StockOptions(skip_conv_layers=()))(model((1, 3, 2, 2), body))
    assert [p.name for p in mod["main"].params] == ["data"]
    values = {str(b.var.name): b.value for b in mod["main"].body.blocks[0].bindings}
    assert {"data.round", "data.int8", "conv1.acc", "bias1.shr", "bias1.clip", "conv2.acc"} <= set(
        values
    )
    assert list(values["bias1.add"].args[1].value.shape) == [1, 2, 1, 1]
    assert values["conv2.acc"].args[0].ty.dtype == "int8"
