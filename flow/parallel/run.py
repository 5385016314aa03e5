"""The map itself: in this process, over processes or threads (joblib), or over a cluster (Dask).

Results come in the order of the items, whoever computed them, so what is made of them does not
depend on the number of workers.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from typing import Final, TypeVar

from flow.stages import Progress
from flow.worker_request import Workers
from vta_config.errors import ClusterError

Item = TypeVar("Item")
Result = TypeVar("Result")
#: Larger arrays are written to a file once, which the processes of this machine map.
MOST_IN_MESSAGE: Final = "64K"


def run_all(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    jobs: int | None = None,
    cluster: str | None = None,
    progress: Progress | None = None,
    threads: bool = False,
    in_order: bool = True,
) -> Iterator[Result]:
    """Yield ``function(item)`` of each item.

    Parameters
    ----------
    function : callable
        Of a module, not a lambda. Its large arguments are `Shared`: in
        ``partial(function, shared)`` they travel once to each worker.
    items : iterable
        Small values that can be pickled, as the results.
    jobs : int, optional
        Workers on this machine; by default, and for 1, this process does it all.
    cluster : str, optional
        In place of `jobs`, the address of a Dask scheduler: ``tcp://host:8786``.
    progress : callable, optional
        Told after each item, in the order in which they are done.
    threads : bool
        Whether the workers of this machine are threads of this process: for a function that works
        without the interpreter's lock most of the time.
    in_order : bool
        Whether results come in the order of the items; else as they are done, which `function` must
        tell apart.

    Raises
    ------
    ConfigError
        When `jobs` is not positive or given with `cluster`, or Dask is missing.
    ClusterError
        When the cluster cannot be used, or workers are lost in the midst of the work.
    Exception
        The first that the function raises.
    """
    check_workers(jobs, cluster)
    work = list(items)
    found: Iterator[tuple[int, Result]]
    if cluster is not None and work:
        from flow.parallel.cluster import on_cluster  # brings in Dask

        found = on_cluster(function, work, cluster)
    elif jobs is None or jobs == 1 or len(work) < 2:
        found = ((index, function(item)) for index, item in enumerate(work))
    else:
        found = _here(function, work, jobs, threads)
    return _ordered(found, len(work), progress, in_order=in_order)


def check_workers(jobs: int | None, cluster: str | None) -> None:
    """Check what the user asks for.

    Raises
    ------
    ConfigError
        When `jobs` is not positive, or both are given.
    """
    Workers(jobs=jobs, cluster=cluster)


def check_cluster(workers: Workers) -> None:
    """Connect to the cluster, if there is one, before any long work.

    Raises
    ------
    ConfigError, ClusterError
        When it cannot be used.
    """
    if workers.cluster is not None:
        from flow.parallel.cluster import connected  # brings in Dask

        connected(workers.cluster)


def _ordered(
    found: Iterator[tuple[int, Result]], total: int, progress: Progress | None, *, in_order: bool
) -> Iterator[Result]:
    """Yield results in order of their indices, as soon as all before them are there."""
    waiting: dict[int, Result] = {}
    following = 0
    for done, (index, result) in enumerate(found, 1):
        if progress is not None:
            progress(done, total)
        if not in_order:
            yield result
            continue
        waiting[index] = result
        while following in waiting:
            yield waiting.pop(following)
            following += 1


def _here(
    function: Callable[[Item], Result], items: Sequence[Item], jobs: int, threads: bool
) -> Iterator[tuple[int, Result]]:
    """Run on this machine."""
    import joblib
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    parallel = joblib.Parallel(
        n_jobs=min(jobs, len(items)),
        prefer="threads" if threads else "processes",
        return_as="generator_unordered",
        batch_size=1,
        max_nbytes=MOST_IN_MESSAGE,
    )
    task = joblib.delayed(partial(_numbered, function, os.getpid()))
    try:
        yield from parallel(task(index, item) for index, item in enumerate(items))
    except TerminatedWorkerError as error:
        raise ClusterError(
            "--jobs",
            "must have worker processes that live as long as the work",
            got=" ".join(str(error).split()),
            hint="if memory ran out, give fewer jobs; what was done is kept unless --no-cache",
        ) from None


def _numbered(
    function: Callable[[Item], Result], parent: int, index: int, item: Item
) -> tuple[int, Result]:
    if os.getpid() != parent:
        _end_with(parent)
    return index, function(item)


@cache
def _end_with(parent: int) -> None:
    """End this process when its parent has ended: a signal leaves that no time to say so."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
