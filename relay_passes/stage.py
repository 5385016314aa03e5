"""Named stages in an order: value in, value out, and a callback between any two."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

S = TypeVar("S")


def _always(state: Any) -> bool:
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage(Generic[S]):
    """One stage.

    Parameters
    ----------
    name : str
    about : str
        What it does, in a line.
    run : callable (state) -> state
        Returns a new state.
    result : callable (state) -> object
        What the stage made, to be looked at: the module, or a table.
    applies : callable (state) -> bool
        Whether the options ask for it; by default always.
    """

    name: str
    about: str
    run: Callable[[S], S]
    result: Callable[[S], Any]
    applies: Callable[[S], bool] = _always


#: Called after each stage with its name and what it made; None where the options skip it.
After: TypeAlias = Callable[[str, Any], None]


def run_stages(stages: Sequence[Stage[S]], state: S, after: After | None = None) -> S:
    """Return the state after the stages, in order; `after` is told of each."""
    for stage in stages:
        applies = stage.applies(state)
        if applies:
            state = stage.run(state)
        if after is not None:
            after(stage.name, stage.result(state) if applies else None)
    return state


def upto(stages: Sequence[Stage[S]], name: str | None) -> tuple[Stage[S], ...]:
    """Return the stages up to the one called `name`; all where it is another or None."""
    names = [stage.name for stage in stages]
    return tuple(stages[: names.index(name) + 1] if name in names else stages)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What a stage made, as a table.

    Parameters
    ----------
    headings : tuple of str
    rows : tuple of tuples of str
        The first cell of each is a name.
    """

    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
