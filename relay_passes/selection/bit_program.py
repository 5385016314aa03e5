"""Which bits each layer gets: HAWQ-V3's integer linear program (arXiv 2011.10680, section 3.4).

With x[i, c] = 1 where layer i takes choice c, a pair of bits of weights and of activations::

    minimise     Σ Ω[i, c] · x[i, c]
    subject to   Σ_c x[i, c] = 1                          for each layer i
                 Σ cost[i, c] · x[i, c] <= limit          for each cost that has a limit
                 Σ_{c of w} x[i, c] = Σ_{c of w} x[j, c]  for layers i, j tied in weights, each w
                 x[i, c] in {0, 1}

Arrays in, bits out: it knows of no network and no machine. CBC solves it, by PuLP.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum, isfinite
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

import numpy as np
import pulp

from vta_config.errors import LimitError
from vta_config.text import printable

if TYPE_CHECKING:
    from numpy.typing import NDArray

Bits: TypeAlias = tuple[int, int]  #: Of weights, of activations.
What: TypeAlias = Literal["weights", "activations", "both"]
#: A sum may pass its limit by this share of it: it is rounded, and so is the limit.
ROUNDING: Final = 1e-9
#: Costs are scaled to sums of about one, perturbations to sums of this: CBC's tolerances (1e-7, and
#: 1e-5 of what is minimised) are absolute.
_SPREAD: Final = 1e6
#: By what limits are drawn in first, in sums of about one, and how often.
_MARGIN: Final = 1e-7
_ATTEMPTS: Final = 8


@dataclass(frozen=True, slots=True)
class Share:
    """A limit between the least sum that can be had and that of the widest choices.

    Limit = least + `value` · (widest - least), where both keep ties and fixed bits.

    Parameters
    ----------
    value : float
        In [0, 1].

    Raises
    ------
    LimitError
        When it is no share.
    """

    value: float

    def __post_init__(self) -> None:
        """Check it."""
        if not 0 <= self.value <= 1:
            raise LimitError(
                "limit",
                "as a share must be in [0, 1]",
                got=self.value,
                hint="0 is the least there is, 1 all layers at their widest",
            )


Limit: TypeAlias = float | Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Tie:
    """Layers that must agree in their bits.

    Parameters
    ----------
    layers : tuple of str
        Such as the two inputs of a sum, or the layers that read one tensor.
    what : {"weights", "activations", "both"}
        Which bits.
    """

    layers: tuple[str, ...]
    what: What = "both"

    def __post_init__(self) -> None:
        """Check it."""
        if self.what not in get_args(What):
            raise LimitError(
                "tie", f"must be of {', '.join(get_args(What))}", got=self.what, hint="name one"
            )

    def of(self, bits: Bits) -> object:
        """Return what layers must agree in."""
        return {"weights": bits[0], "activations": bits[1], "both": bits}[self.what]


@dataclass(frozen=True, slots=True, kw_only=True)
class BitProgram:
    """What there is to choose from, and what each choice costs.

    Parameters
    ----------
    layers : tuple of str
        Names, each once.
    choices : tuple of (weight bits, activation bits)
        Each once, in any order; the widest of a layer is the one with the most bits (product, then
        weights).
    perturbation : float64[layers, choices]
        Ω: what a choice harms, in any unit. May be less than 0.
    costs : mapping of str to float64[layers, choices]
        By name, such as ``size``, ``bops``, ``latency``; at least 0, in any unit.
    allowed : bool[layers, choices], optional
        What a layer may take; all by default. What is not allowed may have any number.
    ties : sequence of Tie
    fixed : mapping of str to (weight bits, activation bits)
        Layers that have no choice.

    Raises
    ------
    LimitError
        When names, shapes or numbers do not go together, or ties and fixed bits leave no choice.
    """

    layers: tuple[str, ...]
    choices: tuple[Bits, ...]
    perturbation: NDArray[np.float64]
    costs: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    allowed: NDArray[np.bool_] | None = None
    ties: Sequence[Tie] = ()
    fixed: Mapping[str, Bits] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check it."""
        for where, names in (("layers", self.layers), ("choices", self.choices)):
            if not names or len(set(names)) != len(names):
                raise LimitError(
                    where, "must be one or more, each once", got=names, hint="name each once"
                )
        shape = (len(self.layers), len(self.choices))
        tables: dict[str, NDArray[Any]] = {"perturbation": self.perturbation, **self.costs}
        if self.allowed is not None:
            tables["allowed"] = self.allowed
        for name, table in tables.items():
            if np.shape(table) != shape:
                raise LimitError(
                    name,
                    f"must have a number for each of {shape[0]} layers and {shape[1]} choices",
                    got=f"shape {np.shape(table)}",
                    hint="give one row a layer",
                )
        free = self.free()
        for name, table in {"perturbation": self.perturbation, **self.costs}.items():
            numbers = np.asarray(table, np.float64)[free]
            if not np.isfinite(numbers).all() or (name in self.costs and (numbers < 0).any()):
                least = ", at least 0" if name in self.costs else ""
                raise LimitError(
                    name,
                    f"must be finite{least}",
                    got=f"{numbers.min()} to {numbers.max()}",
                    hint="check the numbers, or say that a choice is not allowed",
                )

    def free(self) -> NDArray[np.bool_]:
        """Return what each layer may take once its bits are fixed: bool[layers, choices]."""
        shape = (len(self.layers), len(self.choices))
        free = np.ones(shape, bool) if self.allowed is None else np.array(self.allowed, bool)
        for name in (*self.fixed, *(layer for tie in self.ties for layer in tie.layers)):
            if name not in self.layers:
                raise LimitError(
                    "layer",
                    f"must be one of {listed(self.layers)}",
                    got=name,
                    hint="take a name of that list",
                )
        for name, bits in self.fixed.items():
            row = self.layers.index(name)
            may = {self.choices[c] for c in np.flatnonzero(free[row])}
            if tuple(bits) not in may:
                raise LimitError(
                    name,
                    f"must have one of the bits {listed(map(shown, sorted(may)))}",
                    got=shown(bits),
                    hint="fix it to one of them",
                )
            free[row] &= [choice == tuple(bits) for choice in self.choices]
        return self._without_partners(free)

    def _without_partners(self, free: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Take away what a tied layer cannot take, too, until nothing changes."""
        before = -1
        while before != (before := int(free.sum())):
            for tie in self.ties:
                rows = [self.layers.index(name) for name in tie.layers]
                kinds = [tie.of(choice) for choice in self.choices]
                common = set.intersection(
                    *({kinds[c] for c in np.flatnonzero(free[row])} for row in rows)
                )
                for row in rows:
                    free[row] &= [kind in common for kind in kinds]
                if not common:
                    raise LimitError(
                        listed(tie.layers),
                        f"must agree in the bits of {_WORDS[tie.what]}",
                        got="no bits that all of them may take",
                        hint="fix them to the same",
                    )
        for name, row in zip(self.layers, free, strict=True):
            if not row.any():
                raise LimitError(name, "must have a choice of bits", got="none", hint="allow one")
        return free


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """The bits that harm least within the limits.

    Parameters
    ----------
    bits : mapping of str to (weight bits, activation bits)
        By layer, in the order of the program.
    perturbation : float
        Σ Ω.
    costs : mapping of str to float
        The sum of each cost.
    limits : mapping of str to float
        What each limit was as a number.
    """

    bits: Mapping[str, Bits]
    perturbation: float
    costs: Mapping[str, float]
    limits: Mapping[str, float]


_WORDS: Final = {
    "weights": "weights",
    "activations": "activations",
    "both": "weights and activations",
}


def shown(bits: Bits) -> str:
    """Return a pair of bits as people write it, such as ``W4A8``."""
    return f"W{bits[0]}A{bits[1]}"


def listed(names: Iterable[str], most: int = 12) -> str:
    """Return names with commas, the first of very many."""
    known = [printable(str(name), 40) for name in names]
    more = [f"{len(known) - most} more"] if len(known) > most else []
    return ", ".join(known[:most] + more)


def solve(program: BitProgram, limits: Mapping[str, Limit] | None = None) -> Solution:
    """Return the bits of least perturbation that keep all limits; the same whenever it is asked.

    Parameters
    ----------
    program : BitProgram
    limits : mapping of str to float or Share, optional
        The most that the sum of a cost may be, by its name: a number in the unit of the cost, or a
        share. Without limits each layer takes what harms it least.

    Raises
    ------
    LimitError
        When a limit is of no cost of the program or no number, or when no choice keeps all limits:
        the sentence has the nearest that can be kept.
    """
    return _Solver(program).solve(limits or {})


def cost_range(program: BitProgram, name: str) -> tuple[float, float]:
    """Return the least sum of a cost that can be had, and that of the widest choices.

    What shares of a limit lie between.

    Raises
    ------
    LimitError
        When the program has no such cost.
    """
    solver = _Solver(program)
    solver.check_cost(name)
    return solver.range_of(name)


class _Solver:
    """One program, and the ways to ask CBC about it."""

    def __init__(self, program: BitProgram) -> None:
        self._program = program
        self._free = program.free()
        self._costs = {n: np.asarray(t, np.float64) for n, t in program.costs.items()}

    def check_cost(self, name: str) -> None:
        if name not in self._costs:
            raise LimitError(
                "limit",
                f"must be of {listed(self._costs) or 'a cost, of which there is none'}",
                got=name,
                hint="give the program its costs",
            )

    def range_of(self, name: str) -> tuple[float, float]:
        table = self._costs[name]
        least = self._sum(table, self._unlimited(table))
        # Tied layers have the same widest choice only where they may take the same: let the
        # program find the widest that ties permit.
        bits = np.array([w * a + w / 1024 for w, a in self._program.choices])
        widest = self._unlimited(-np.broadcast_to(bits, table.shape))
        return least, max(least, self._sum(table, widest))

    def solve(self, limits: Mapping[str, Limit]) -> Solution:
        most: dict[str, float] = {}
        for name, limit in limits.items():
            self.check_cost(name)
            if isinstance(limit, Share):
                least, widest = self.range_of(name)
                most[name] = least + limit.value * (widest - least)
            elif isfinite(limit):
                most[name] = float(limit)
            else:
                raise LimitError(name, "limit must be a finite number", got=limit, hint="give one")
        chosen = self._within(most)
        program = self._program
        return Solution(
            bits={n: program.choices[c] for n, c in zip(program.layers, chosen, strict=True)},
            perturbation=self._sum(np.asarray(program.perturbation, np.float64), chosen),
            costs={name: self._sum(table, chosen) for name, table in self._costs.items()},
            limits=most,
        )

    def _within(self, most: Mapping[str, float]) -> list[int]:
        """Return the best choices that keep the limits.

        CBC works with floating-point numbers: where a sum is within about a millionth of a limit,
        it may take the limit for kept, or for one that cannot be kept. Such limits are drawn in by
        more and more.
        """
        omega = np.asarray(self._program.perturbation, np.float64)
        margin = dict.fromkeys(most, 0.0)
        near: list[int] | None = None
        for attempt in range(_ATTEMPTS):
            chosen = self._least(omega, {n: (v, margin[n]) for n, v in most.items()})
            passed = list(most) if chosen is None else self._passed(chosen, most)
            if chosen is not None and not passed:
                return chosen
            if chosen is None and near is None:
                near = self._nearest(most)
                if self._passed(near, most):
                    raise self._too_tight(near, most)
            for name in passed:
                margin[name] = _MARGIN * 4.0**attempt
        return near if near is not None else self._checked(self._nearest(most), most)

    def _checked(self, near: list[int], most: Mapping[str, float]) -> list[int]:
        if self._passed(near, most):
            raise self._too_tight(near, most)
        return near

    def _passed(self, chosen: Sequence[int], most: Mapping[str, float]) -> list[str]:
        """Return the limits that a choice does not keep."""
        return [n for n, v in most.items() if not self._keeps(n, chosen, v)]

    def _keeps(self, name: str, chosen: Sequence[int], most: float) -> bool:
        return self._sum(self._costs[name], chosen) <= most + ROUNDING * abs(most)

    def _too_tight(self, near: Sequence[int], most: Mapping[str, float]) -> LimitError:
        """Say that limits cannot be kept, and which can: what the nearest choices cost."""
        sums = {name: self._sum(self._costs[name], near) for name in most}
        passed = self._passed(near, most)
        nearest = [f"{n} {number(sums[n], up=True)}" for n in passed]
        kept = [f"{n} {number(v)}" for n, v in most.items() if n not in passed]
        within = f" with {' and '.join(kept)}" if kept else ""
        return LimitError(
            "limits" if len(most) > 1 else "limit",
            "must leave a choice of bits",
            got=" and ".join(f"{n} {number(v)}" for n, v in most.items()),
            hint=f"the nearest that can be kept is {' and '.join(nearest)}{within}",
        )

    def _nearest(self, most: Mapping[str, float]) -> list[int]:
        """Return the choices that pass the limits by the least sum of shares of their ranges."""
        problem, x = self._problem()
        excess = []
        for k, (name, limit) in enumerate(most.items()):
            by = problem.add_variable(f"excess{k}", lowBound=0)
            scale = self._scale(name)
            problem += self._row(self._costs[name] / scale, x) - by <= limit / scale
            excess.append(by)
        problem.setObjective(_SPREAD * pulp.lpSum(excess))
        chosen = _run(problem, x)
        assert chosen is not None
        return chosen

    def _unlimited(self, table: NDArray[np.float64]) -> list[int]:
        chosen = self._least(table)
        assert chosen is not None  # that ties and fixed bits leave a choice is checked
        return chosen

    def _least(
        self, table: NDArray[np.float64], most: Mapping[str, tuple[float, float]] | None = None
    ) -> list[int] | None:
        """Return the choices of the least sum of a table within limits; None where there are none.

        Each limit comes with a margin, a share of its scale.
        """
        problem, x = self._problem()
        for name, (limit, margin) in (most or {}).items():
            scale = self._scale(name)
            problem += self._row(self._costs[name] / scale, x) <= limit / scale - margin
        best = np.where(self._free, table, np.inf).min(axis=1, keepdims=True)
        lost = np.where(self._free, table - best, 0.0)
        spread = float(lost.max(axis=1).sum())
        problem.setObjective(self._row(lost * (_SPREAD / spread if spread else 0.0), x))
        return _run(problem, x)

    def _scale(self, name: str) -> float:
        """Return about the sum of a cost, to divide by."""
        return float(np.where(self._free, self._costs[name], 0.0).max(axis=1).sum()) or 1.0

    def _row(self, table: NDArray[np.float64], x: _Variables) -> Any:
        return pulp.LpAffineExpression([(v, float(table[key])) for key, v in x.items()])

    def _sum(self, table: NDArray[np.float64], chosen: Sequence[int]) -> float:
        return fsum(float(table[i, c]) for i, c in enumerate(chosen))

    def _problem(self) -> tuple[Any, _Variables]:
        """Return a choice for each layer, ties kept, and its variables."""
        program = self._program
        problem = pulp.LpProblem("bits", pulp.LpMinimize)
        x: _Variables = {
            (int(i), int(c)): problem.add_variable(f"x{i}_{c}", cat=pulp.LpBinary)
            for i, c in zip(*np.nonzero(self._free), strict=True)
        }
        for i in range(len(program.layers)):
            problem += pulp.lpSum(v for (row, _), v in x.items() if row == i) == 1
        for tie in program.ties:
            first, *others = dict.fromkeys(program.layers.index(name) for name in tie.layers)
            kinds = [tie.of(choice) for choice in program.choices]
            for other in others:
                for kind in dict.fromkeys(kinds):
                    sums = [
                        pulp.lpSum(
                            x[i, c] for c, k in enumerate(kinds) if k == kind and (i, c) in x
                        )
                        for i in (first, other)
                    ]
                    if any(sums):
                        problem += pulp.lpSum(sums[0]) == pulp.lpSum(sums[1])
        return problem, x


_Variables: TypeAlias = "dict[tuple[int, int], Any]"


def _run(problem: Any, x: _Variables) -> list[int] | None:
    """Solve; return the choice of each layer, None where there is none."""
    # One thread, and no limit of time: the same result on any machine.
    solver = pulp.PULP_CBC_CMD(
        msg=False,
        threads=1,
        gapRel=0.0,
        gapAbs=0.0,
        options=["increment 0"],
    )
    if not solver.available():
        raise LimitError(
            "PuLP",
            "must bring the solver CBC for this machine",
            got="none",
            hint="install CBC, so that PuLP finds it",
        )
    status = problem.solve(solver)
    if status != pulp.LpStatusOptimal:
        return None
    chosen: dict[int, int] = {}
    for (i, c), variable in x.items():
        if variable.value() > 0.5:
            chosen[i] = c
    return [chosen[i] for i in range(len(chosen))]


def number(value: float, *, up: bool = False) -> str:
    """Return a number as people write it: whole ones in full, others with 6 digits.

    Parameters
    ----------
    value : float
    up : bool
        Never less than `value`, so that it can be given back as a limit.
    """
    if value == round(value) and abs(value) < 1e15:
        return f"{round(value):,}"
    text = f"{value:.6g}"
    if up and float(text) < value:
        digits = 10.0 ** (np.floor(np.log10(abs(value))) - 5)
        text = f"{np.ceil(value / digits) * digits:.6g}"
    return text
