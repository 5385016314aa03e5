"""Calls as messages: a scheduler passes them on as bytes and needs none of the modules in them."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import flow
from flow.cache.keys import sources
from flow.parallel.shared import Shared
from vta_config.errors import ClusterError


@dataclass(frozen=True, slots=True)
class Place:
    """Where a shared value stands among the arguments of a call."""

    number: int


def packed_calls(
    function: Callable[..., Any], items: list[Any]
) -> tuple[list[bytes], tuple[Shared, ...]]:
    """Return a message for each ``function(item)``, and the values that all of them share.

    Parameters
    ----------
    function : callable
        `Shared` arguments of a ``functools.partial`` are taken out of the messages.
    items : list
    """
    given = function if isinstance(function, partial) else partial(function)
    shared = tuple(dict.fromkeys(v for v in given.args if isinstance(v, Shared)))
    args = [Place(shared.index(v)) if isinstance(v, Shared) else v for v in given.args]
    head = (version(), given.func, args, given.keywords)
    return [pickle.dumps((*head, item), protocol=5) for item in items], shared


def call(message: bytes, *shared: Shared) -> Any:
    """Run what `packed_calls` made, on a worker.

    Raises
    ------
    ClusterError
        When the worker has another version: it came later than the others, which were asked.
    Exception
        Of the function.
    """
    sent, function, args, keywords, item = pickle.loads(message)
    if sent != version():
        raise ClusterError(
            "--cluster",
            f"must have vta-flow {sent} on all workers, also on those that come later",
            got=version(),
            hint="install the same version there",
        )
    own = [shared[value.number] if isinstance(value, Place) else value for value in args]
    return function(*own, item, **keywords)


@cache
def version() -> str:
    """Return the version of this project and the beginning of the sum of its sources."""
    return f"{flow.__version__} ({sources()[:12]})"
