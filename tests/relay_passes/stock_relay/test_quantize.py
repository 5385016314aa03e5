"""Stock Relay quantization as a whole: golden logits and graphs, plain arithmetic, a text."""

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
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.host.run import compile_for_host
from relay_passes.stock_relay.nodes import Node, post_order
from relay_passes.stock_relay.options import StockOptions
from relay_passes.stock_relay.quantize import StockRelay
from tests.relay_passes.expected import assert_becomes
from tests.relay_passes.stock_relay.models import model, quantized, random, run

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


# --------------------------------------------------------------------------------- before and after


def test_a_residual_block() -> None:
    """Scales 1/16 of activations, 1/128 of weights, 1/256 of the bias: shifts by 7, bias by 3."""
    kernel = np.float32([0.5, -1.0])
    bias = np.float32([0.25, -0.5]).reshape(1, 2, 1, 1)

    @I.ir_module
    class Before:
        @R.function
        def main(data: R.Tensor((1, 1, 2, 2), "float32")):
            with R.dataflow():
                conv = R.nn.conv2d(data, R.const(kernel.reshape(2, 1, 1, 1)))
                biased = R.add(conv, R.const(bias))
                y = R.nn.relu(biased)
                z = R.nn.conv2d(y, R.const(kernel.reshape(1, 2, 1, 1)))
                total = R.add(z, data)
                R.output(total)
            return total

    @I.ir_module
    class After:
        @R.function
        def main(data: R.Tensor((1, 1, 2, 2), "float32")):
            with R.dataflow():
                data_scaled = R.multiply(data, R.const(16, "float32"))
                data_round_sign = R.sign(data_scaled)
                data_round_half = R.multiply(
                    data_round_sign, R.const(np.nextafter(np.float32(0.5), np.float32(0)))
                )
                data_round_sum = R.add(data_scaled, data_round_half)
                data_round = R.trunc(data_round_sum)
                data_clip = R.clip(data_round, -127.0, 127.0)
                data_int8 = R.astype(data_clip, "int8")
                conv_acc = R.nn.conv2d(
                    data_int8, R.const(np.int8([64, -127]).reshape(2, 1, 1, 1)), out_dtype="int32"
                )
                biased_add = R.add(
                    conv_acc, R.const(np.int32([64 << 3, -127 << 3]).reshape(1, 2, 1, 1))
                )
                y_relu = R.nn.relu(biased_add)
                y_add = R.add(y_relu, R.const(64, "int32"))
                y_shr = R.right_shift(y_add, R.const(7, "int32"))
                y_clip = R.clip(y_shr, -127, 127)
                y = R.astype(y_clip, "int8")
                z_acc = R.nn.conv2d(
                    y, R.const(np.int8([64, -127]).reshape(1, 2, 1, 1)), out_dtype="int32"
                )
                z_add = R.add(z_acc, R.const(64, "int32"))
                z_shr = R.right_shift(z_add, R.const(7, "int32"))
                z_clip = R.clip(z_shr, -127, 127)
                z = R.astype(z_clip, "int8")
                z_int32 = R.astype(z, "int32")
                data_int32 = R.astype(data_int8, "int32")
                total_add = R.add(z_int32, data_int32)
                total_float32 = R.astype(total_add, "float32")
                total_scaled = R.multiply(total_float32, R.const(0.0625, "float32"))
                R.output(total_scaled)
            return total_scaled

    assert_becomes(StockRelay(StockOptions(skip_conv_layers=())), Before, After)
