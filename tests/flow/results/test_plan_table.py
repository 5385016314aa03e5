"""The table of a quantization plan, cell by cell."""

from __future__ import annotations

import io
from fractions import Fraction

from rich.console import Console

from flow.results.plan_table import host_lines, plan_table
from relay_passes.integers.plan import LayerPlan, QuantPlan, SumPlan
from relay_passes.params import QuantParams, Requant


def plan() -> QuantPlan:
    many = Requant(
        multiplier=(3, 5, 3, 5, 3),
        shift=(4, 5, 6, 7, 8),
        ratio=tuple(
            Fraction(b, 1 << n) * Fraction(1000, 1001)
            for b, n in zip((3, 5, 3, 5, 3), (4, 5, 6, 7, 8), strict=True)
        ),
    )
    one = Requant(multiplier=(1,), shift=(6,), ratio=(Fraction(1, 64),))
    scale = {"data": 0.5, "a": 0.25, "b": 0.125, "c": 1.0}
    return QuantPlan(
        tensors={name: QuantParams(scale=(s,)) for name, s in scale.items()},
        weights={
            "a.acc": QuantParams(scale=(0.1, 0.2), bits=4, granularity="block"),
            "d.acc": QuantParams(scale=(0.3,)),
        },
        layers=(
            LayerPlan(
                name="a", inputs=("data", "b", "b", "b"),
                operators=("a.acc", "s0", "s1", "s2", "s3"), output="a", requant=many,
            ),
            LayerPlan(name="pool", inputs=("a",), operators=("c",), output="c", requant=one),
            LayerPlan(name="d", inputs=("c",), operators=("d.acc",)),
        ),
        sums={
            "s0": SumPlan(first="a", second="b", multiplier=(3, 7)),
            "s1": SumPlan(first="a", second="b", multiplier=(0,)),
            "s2": SumPlan(first="a", second="b", second_shift=(2,)),
            "s3": SumPlan(first="a", second="b", first_shift=(1,)),
        },
        host={"odd": "no scale"},
        floats={"x": "no shift", "y": "no shift"},
    )  # fmt: skip


def test_cells() -> None:
    table = plan_table(plan())
    columns = {str(column.header): [str(cell) for cell in column.cells] for column in table.columns}
    assert columns == {
        "layer": ["a", "pool", "d"],
        "output tensor": ["a", "c", "int32"],
        "input scale": ["2^-1", "2^-2", "2^0"],
        "weight scale": ["0.1 to 0.2", "–", "0.3"],
        "accumulator scale": ["0.05 to 0.1", "2^-6", "0.3"],
        "output scale": ["2^-2", "2^0", "–"],
        "width: input, weight, output (bits)": ["8, 4, 8", "8, –, 8", "8, 8, –"],
        "shift (bits)": ["4 to 8", "6", "–"],
        "multiplier": ["3, 5", "1", "–"],
        "residual multiplier": ["3, 7; 0 (too small); 4; 1 (accumulator × 2)", "", ""],
        "relative error": ["1e-03", "0", "–"],
    }


def test_a_terminal_shows_it() -> None:
    console = Console(file=io.StringIO(), width=132)
    console.print(plan_table(plan()))
    assert isinstance(console.file, io.StringIO) and "0.1 to 0.2" in console.file.getvalue()


def test_what_the_host_does() -> None:
    assert host_lines(plan()) == [
        "on host    odd runs in float32: no scale",
        "           x is quantized on the host: no shift",
        "           y is quantized on the host: no shift",
    ]
