"""HAWQ-V3's integer program: published choices, all small programs, and what cannot be had."""

from __future__ import annotations

import ast
import json
import re
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pulp
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from relay_passes.selection import bit_program
from relay_passes.selection.bit_program import (
    BitProgram,
    Share,
    Solution,
    Tie,
    cost_range,
    number,
    solve,
)
from vta_config.errors import LimitError

PAIRS = ((4, 4), (4, 8), (8, 4), (8, 8))


def program(**changes: Any) -> BitProgram:
    """Three layers that are narrow or wide: the first is dear, the last is delicate."""
    fields: dict[str, Any] = {
        "layers": ("a", "b", "c"),
        "choices": ((4, 8), (8, 8)),
        "perturbation": np.array([[3.0, 0], [2, 0], [9, 0]]),
        "costs": {
            "size": np.array([[40, 80], [10, 20], [10, 20]]),
            "latency": np.array([[10, 20], [10, 20], [10, 20]]),
        },
    }
    return BitProgram(**fields | changes)


def weights(solution: Solution) -> list[int]:
    return [bits[0] for bits in solution.bits.values()]


def test_published_choices_of_hawq_v3(shared_data: Path) -> None:
    file = shared_data / "golden" / "hawq_v3" / "resnet18.json"
    published = json.loads(file.read_text(encoding="utf-8"))

    def table(by_bits: dict[str, list[float]]) -> Any:
        return np.stack([by_bits["4"], by_bits["8"]], axis=1)

    layers = tuple(published["layers"])
    trace = np.array(published["hessian_trace_over_parameters"])
    inputs = BitProgram(
        layers=layers,
        choices=((4, 4), (8, 8)),
        perturbation=trace[:, None] * table(published["squared_weight_error"]),
        costs={name.split("_")[0]: table(costs) for name, costs in published["cost"].items()},
        ties=[Tie(layers=(layers[i], layers[j])) for i, j in published["same_bits"]],
    )
    assert len(published["choices"]) == 9
    for name, choice in published["choices"].items():
        cost, share = name.split("_")
        start = time.perf_counter()
        found = solve(inputs, {cost: Share(float(share))})
        assert time.perf_counter() - start < 1
        assert weights(found) == choice["bits"], name


def test_without_limits_nothing_is_harmed() -> None:
    found = solve(program())
    assert weights(found) == [8, 8, 8]
    assert (found.perturbation, found.costs) == (0, {"size": 120, "latency": 60})


def test_each_limit_alone_and_together() -> None:
    # By size the first layer is worth most; by latency all are worth the same.
    assert weights(solve(program(), {"size": 80})) == [4, 8, 8]
    assert weights(solve(program(), {"latency": 50})) == [8, 4, 8]
    assert weights(solve(program(), {"latency": 50, "size": 80})) == [4, 8, 8]
    assert weights(solve(program(), {"latency": 40, "size": 80})) == [4, 4, 8]


def test_shares_lie_between_the_narrowest_and_the_widest() -> None:
    assert cost_range(program(), "size") == (60, 120)
    assert solve(program(), {"size": Share(0.5)}).limits == {"size": 90}
    assert weights(solve(program(), {"size": Share(0)})) == [4, 4, 4]
    assert weights(solve(program(), {"size": Share(1)})) == [8, 8, 8]


def test_shares_leave_out_what_is_fixed() -> None:
    fixed = program(fixed={"a": (8, 8)})
    assert cost_range(fixed, "size") == (100, 120)
    assert weights(solve(fixed, {"size": Share(0)})) == [8, 4, 4]


def test_no_cycle_to_win_gives_the_widest() -> None:
    same = program(costs={"latency": np.full((3, 2), 7.0)})
    for share in (0, 0.25, 0.5, 1):
        assert weights(solve(same, {"latency": Share(share)})) == [8, 8, 8]


def test_narrow_choices_may_cost_more() -> None:
    # The widest is then the cheapest, and all shares mean the same.
    odd = program(costs={"latency": np.array([[11.0, 10], [11, 10], [11, 10]])})
    assert cost_range(odd, "latency") == (30, 30)
    assert weights(solve(odd, {"latency": Share(0)})) == [8, 8, 8]


def test_tied_layers_agree() -> None:
    tied = program(ties=[Tie(layers=("b", "c"))])
    assert weights(solve(tied, {"latency": 50})) == [4, 8, 8]
    assert weights(solve(tied, {"latency": 40})) == [8, 4, 4]


@pytest.mark.parametrize(
    ("what", "expected"),
    [("weights", ((4, 4), (4, 8))), ("activations", ((8, 4), (4, 4))), ("both", ((4, 8),) * 2)],
)
def test_ties_of_weights_activations_or_both(what: Any, expected: Any) -> None:
    # One layer is best at the first pair named, the other at the second.
    wanted = {"weights": ((4, 4), (8, 8)), "activations": ((8, 4), (4, 8))}.get(what, PAIRS[1::2])
    omega = np.full((2, 4), 10.0)
    for row, bits in enumerate(wanted):
        omega[row, PAIRS.index(bits)] = 0
    omega[1, PAIRS.index(expected[1])] = 1  # the best that agrees with the first
    two = BitProgram(
        layers=("a", "b"),
        choices=PAIRS,
        perturbation=omega,
        ties=[Tie(layers=("a", "b"), what=what)],
    )
    assert tuple(solve(two).bits.values()) == expected


def test_what_one_tied_layer_lacks_the_other_lacks() -> None:
    allowed = np.array([[False, True], [True, True], [True, True]])
    tied = program(allowed=allowed, ties=[Tie(layers=("a", "c"))])
    assert cost_range(tied, "size") == (110, 120)
    assert weights(solve(tied, {"size": Share(0)})) == [8, 4, 8]


def test_what_is_not_allowed_may_have_any_number() -> None:
    allowed = np.array([[False, True], [True, True], [True, True]])
    omega = np.array([[np.nan, 0], [2, 0], [9, 0]])
    found = solve(program(allowed=allowed, perturbation=omega), {"latency": 50})
    assert weights(found) == [8, 4, 8]


@st.composite
def small_programs(draw: st.DrawFn) -> tuple[BitProgram, dict[str, float]]:
    """Programs that can be tried out: whole numbers, so that sums have no rounding."""
    count = draw(st.integers(1, 4))
    layers = tuple(f"layer {i}" for i in range(count))
    choices = tuple(draw(st.permutations(PAIRS)))[: draw(st.integers(1, 4))]

    def table(most: int) -> Any:
        row = st.lists(st.integers(0, most), min_size=len(choices), max_size=len(choices))
        return np.array(draw(st.lists(row, min_size=count, max_size=count)), float)

    most = draw(st.sampled_from([3, 100, 10**10]))
    costs = {name: table(most) for name in ("size", "bops", "latency")[: draw(st.integers(0, 3))]}
    names = st.lists(st.sampled_from(layers), min_size=1, max_size=3).map(tuple)
    kinds = st.sampled_from(["weights", "activations", "both"])
    ties = draw(st.lists(st.builds(lambda n, w: Tie(layers=n, what=w), names, kinds), max_size=2))
    fixed = draw(st.dictionaries(st.sampled_from(layers), st.sampled_from(choices), max_size=1))
    omega = table(draw(st.sampled_from([2, 10**6]))) - draw(st.sampled_from([0, 1]))
    try:
        made = BitProgram(
            layers=layers, choices=choices, perturbation=omega, costs=costs, ties=ties, fixed=fixed
        )
    except LimitError:
        assume(False)
    limits = {name: float(draw(st.integers(0, int(t.max(1).sum())))) for name, t in costs.items()}
    return made, limits


def all_solutions(of: BitProgram) -> list[tuple[int, ...]]:
    """Return all choices that keep ties and fixed bits."""
    found = []
    for chosen in product(range(len(of.choices)), repeat=len(of.layers)):
        bits = {n: of.choices[c] for n, c in zip(of.layers, chosen, strict=True)}
        if any(bits[n] != b for n, b in of.fixed.items()):
            continue
        if all(len({tie.of(bits[n]) for n in tie.layers}) == 1 for tie in of.ties):
            found.append(chosen)
    return found


def total(table: Any, chosen: tuple[int, ...]) -> float:
    return float(sum(table[i, c] for i, c in enumerate(chosen)))


@given(small_programs())
def test_no_other_choice_within_the_limits_is_better(
    case: tuple[BitProgram, dict[str, float]],
) -> None:
    inputs, limits = case
    fits = [
        chosen
        for chosen in all_solutions(inputs)
        if all(total(inputs.costs[n], chosen) <= most for n, most in limits.items())
    ]
    if not fits:
        with pytest.raises(LimitError, match="must leave a choice of bits, got .*; the nearest"):
            solve(inputs, limits)
        return
    found = solve(inputs, limits)
    chosen = tuple(inputs.choices.index(bits) for bits in found.bits.values())
    assert chosen in fits
    assert found.perturbation == min(total(inputs.perturbation, other) for other in fits)
    assert found.costs == {n: total(t, chosen) for n, t in inputs.costs.items()}
    assert solve(inputs, limits) == found


@given(small_programs())
def test_shares_are_what_trying_all_finds(case: tuple[BitProgram, dict[str, float]]) -> None:
    inputs, _ = case
    # The most bits: products first, then those of weights.
    bits = np.array([[1024 * w * a + w for w, a in inputs.choices]] * len(inputs.layers))
    for name, table in inputs.costs.items():
        sums = {chosen: total(table, chosen) for chosen in all_solutions(inputs)}
        least, widest = cost_range(inputs, name)
        assert least == min(sums.values())
        most = max(total(bits, chosen) for chosen in sums)
        assert widest in {max(least, s) for c, s in sums.items() if total(bits, c) == most}
        assert solve(inputs, {name: Share(0)}).costs[name] == pytest.approx(least)


def hundred_layers(rng: np.random.Generator) -> BitProgram:
    """A hundred layers of five widths, with ties, a fixed layer and three costs."""
    choices = ((8, 8), (4, 8), (8, 4), (4, 4), (2, 2))
    layers = tuple(f"layer {i}" for i in range(100))
    w, a = np.array(choices).T
    macs, params = rng.integers(10**6, 10**8, (100, 1)), rng.integers(10**3, 10**6, (100, 1))
    harm = (
        np.exp(rng.normal(0, 2, (100, 1))) * [0, 1, 1.5, 2.5, 10] * rng.uniform(0.8, 1.2, (100, 5))
    )
    steps = macs * [4, 2, 2, 1, 0.5] * rng.uniform(0.9, 1.1, (100, 5))
    ties = [Tie(layers=layers[i : i + 3], what="activations") for i in range(0, 50, 5)]
    return BitProgram(
        layers=layers,
        choices=choices,
        perturbation=harm,
        costs={"size": params * w / 8, "bops": macs * w * a, "latency": steps},
        ties=ties,
        fixed={"layer 0": (8, 8)},
    )


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.75])
def test_a_hundred_layers_take_less_than_a_second(share: float) -> None:
    inputs = hundred_layers(np.random.default_rng(7))
    limits = {name: Share(share) for name in inputs.costs}
    start = time.perf_counter()
    found = solve(inputs, limits)
    assert time.perf_counter() - start < 2  # on a machine that others use; alone 0.2
    assert all(found.costs[n] <= most * (1 + 1e-9) for n, most in found.limits.items())
    assert solve(inputs, limits) == found


def test_equal_layers_take_less_than_a_second() -> None:
    # All orders of the same choices are equally good: a search that tries them never ends.
    count = 100
    equal = BitProgram(
        layers=tuple(f"layer {i}" for i in range(count)),
        choices=((4, 8), (8, 8)),
        perturbation=np.tile([1.0, 0], (count, 1)),
        costs={"latency": np.tile([3.0, 7.0], (count, 1))},
    )
    start = time.perf_counter()
    found = solve(equal, {"latency": 502.0})
    assert time.perf_counter() - start < 2
    assert found.perturbation == 50 and found.costs == {"latency": 500}


def test_a_sum_just_above_its_limit_is_not_taken() -> None:
    # By a hundred-millionth: less than what CBC takes for kept.
    big = program(costs={"size": np.array([[1e10, 2e10]] * 3)})
    found = solve(big, {"size": 5e10 - 500})
    assert found.costs["size"] == 4e10
    assert weights(found) == [4, 4, 8]


def test_small_perturbations_count() -> None:
    near = program(perturbation=np.array([[1e-12, 0], [1.000001e-12, 0], [1.1e-12, 0]]))
    assert weights(solve(near, {"latency": 50})) == [4, 8, 8]


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (
            {"latency": 29},
            "limit: must leave a choice of bits, got latency 29; the nearest that can be kept is "
            "latency 30",
        ),
        (
            {"size": 80, "latency": 29.5},
            "limits: must leave a choice of bits, got size 80 and latency 29.5; the nearest that "
            "can be kept is latency 30 with size 80",
        ),
        (
            {"size": 59, "latency": 29},
            "limits: must leave a choice of bits, got size 59 and latency 29; the nearest that can "
            "be kept is size 60 and latency 30",
        ),
        (
            {"speed": 3},
            "limit: must be of size, latency, got speed; give the program its costs",
        ),
        (
            {"size": float("nan")},
            "size: limit must be a finite number, got nan; give one",
        ),
    ],
)
def test_limits_that_cannot_be_kept(limits: dict[str, float], sentence: str) -> None:
    with pytest.raises(LimitError, match=f"^{re.escape(sentence)}$"):
        solve(program(), limits)


def test_limits_that_contradict_each_other() -> None:
    # Each alone can be kept: one layer is small and slow where the other is large and fast.
    costs = {"size": np.array([[1.0, 9], [9, 1]]), "latency": np.array([[9.0, 1], [1, 9]])}
    crossed = BitProgram(
        layers=("a", "b"),
        choices=((4, 8), (8, 8)),
        perturbation=np.array([[1.0, 0], [1, 0]]),
        costs=costs,
    )
    assert solve(crossed, {"size": 2}) and solve(crossed, {"latency": 2})
    sentence = "got size 10 and latency 9; the nearest that can be kept is latency 10 with size 10"
    with pytest.raises(LimitError, match=f"{sentence}$"):
        solve(crossed, {"size": 10, "latency": 9})


@given(st.floats(0, 1e15, allow_nan=False))
def test_the_nearest_limit_can_be_given_back(value: float) -> None:
    assert float(number(value, up=True).replace(",", "")) >= value


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"layers": ("a", "b", "a")},
            "layers: must be one or more, each once, got ('a', 'b', 'a'); name each once",
        ),
        ({"choices": ()}, "choices: must be one or more, each once, got (); name each once"),
        (
            {"perturbation": np.zeros((3, 3))},
            "perturbation: must have a number for each of 3 layers and 2 choices, got shape "
            "(3, 3); give one row a layer",
        ),
        (
            {"costs": {"size": np.full((3, 2), -1.0)}},
            "size: must be finite, at least 0, got -1.0 to -1.0; check the numbers, or say that a "
            "choice is not allowed",
        ),
        (
            {"perturbation": np.full((3, 2), np.inf)},
            "perturbation: must be finite, got inf to inf; check the numbers, or say that a choice "
            "is not allowed",
        ),
        (
            {"fixed": {"d": (8, 8)}},
            "layer: must be one of a, b, c, got d; take a name of that list",
        ),
        (
            {"ties": [Tie(layers=("a", "d"))]},
            "layer: must be one of a, b, c, got d; take a name of that list",
        ),
        (
            {"fixed": {"a": (2, 8)}},
            "a: must have one of the bits W4A8, W8A8, got W2A8; fix it to one of them",
        ),
        (
            {"fixed": {"a": (4, 8), "b": (8, 8)}, "ties": [Tie(layers=("a", "b"), what="weights")]},
            "a, b: must agree in the bits of weights, got no bits that all of them may take; fix "
            "them to the same",
        ),
        (
            {"allowed": np.array([[True, True], [False, False], [True, True]])},
            "b: must have a choice of bits, got none; allow one",
        ),
    ],
)
def test_programs_that_make_no_sense(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(LimitError, match=f"^{re.escape(sentence)}$"):
        program(**changes)


def test_shares_and_ties_that_make_no_sense() -> None:
    with pytest.raises(
        LimitError, match=r"limit: as a share must be in \[0, 1\], got 1.5; 0 is the least"
    ):
        Share(1.5)
    with pytest.raises(
        LimitError, match="tie: must be of weights, activations, both, got all; name one"
    ):
        Tie(layers=("a", "b"), what="all")  # type: ignore[arg-type]


def test_costs_that_there_are_not() -> None:
    with pytest.raises(
        LimitError, match="limit: must be of a cost, of which there is none, got size"
    ):
        cost_range(program(costs={}), "size")


def test_a_solver_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulp.PULP_CBC_CMD, "available", lambda self: False)
    with pytest.raises(
        LimitError, match="PuLP: must bring the solver CBC for this machine, got none"
    ):
        solve(program())


def test_it_is_quiet(capfd: pytest.CaptureFixture[str]) -> None:
    solve(program(), {"size": 80})
    assert capfd.readouterr() == ("", "")


def test_it_knows_of_no_network() -> None:
    tree = ast.parse(Path(bit_program.__file__).read_text(encoding="utf-8"))
    named = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    named |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    ours = {name for name in named if str(name).startswith(("vta_config", "relay_passes", "flow"))}
    assert ours == {"vta_config.errors", "vta_config.text"}
    assert named - ours >= {"numpy", "pulp"}
    assert not {name for name in named if str(name).startswith("tvm")}
