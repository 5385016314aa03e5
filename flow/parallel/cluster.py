"""The map over a Dask cluster: connected once, checked, and asked in small messages.

A worker that is lost is Dask's to replace: it runs the items that were on it elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, NoReturn

from flow.cache.keys import LIBRARIES
from flow.parallel import facts as facts_module
from flow.parallel.facts import difference, facts
from flow.parallel.messages import call, packed_calls
from flow.parallel.shared import MOST_OPENED, Shared
from vta_config.errors import ClusterError, ConfigError

#: How long a scheduler may take to answer, and to have its first worker.
PATIENCE_S: Final = 10.0
_OPTION: Final = "--cluster"


def on_cluster(
    function: Callable[[Any], Any],
    items: Sequence[Any],
    address: str,
    *,
    patience_s: float = PATIENCE_S,
) -> Iterator[tuple[int, Any]]:
    """Yield the index and result of each item, as they are done.

    Parameters
    ----------
    function, items
        As for `flow.parallel.run.run_all`.
    address : str
        Of the scheduler.
    patience_s : float
        How long a scheduler may take to answer, and to have its first worker.

    Raises
    ------
    ConfigError
        When Dask is missing, or the address is none.
    ClusterError
        When no scheduler answers, it has no workers, they compute with other versions, or too many
        of them are lost.
    """
    connection = connected(address, patience_s)
    client = connection.client
    from distributed import KilledWorker, as_completed
    from distributed.client import FutureCancelledError

    futures: dict[Any, int] = {}
    try:
        messages, shared = packed_calls(function, list(items))
        places = connection.places(shared)
        futures = {
            client.submit(call, data, *places, pure=False): index
            for index, data in enumerate(messages)
        }
        for future in as_completed(list(futures), loop=client.loop):
            yield futures.pop(future), future.result()
    except KilledWorker as error:
        raise ClusterError(
            _OPTION,
            "must have workers that live longer than an item takes",
            got=f"{error.last_worker.address} lost, the last of {error.allowed_failures + 1} "
            "with the same item",
            hint="see the log of that worker, such as for memory",
        ) from None
    except (FutureCancelledError, OSError) as error:
        if isinstance(error, OSError) and client.status == "running":
            raise  # the item's own
        raise ClusterError(
            _OPTION,
            f"must have its scheduler {address} and a worker until the end",
            got=f"lost {'workers' if client.status == 'running' else 'the scheduler'}",
            hint="start them again; what was done is kept unless --no-cache",
        ) from None
    finally:
        with contextlib.suppress(Exception):
            client.cancel(list(futures))


@dataclass(slots=True)
class Connection:
    """A cluster as one process sees it.

    Parameters
    ----------
    client : distributed.Client
    sent : dict of str to future
        Shared values that workers have, by digest, the one used last at the end.
    """

    client: Any
    sent: OrderedDict[str, Any] = field(default_factory=OrderedDict)

    def places(self, shared: Sequence[Shared]) -> list[Any]:
        """Return where workers find shared values, which are sent to each where they are new."""
        for value in shared:
            known = self.sent.pop(value.digest, None)
            if known is None or known.status != "finished":  # its workers are gone
                known = self.client.scatter(value, broadcast=True, hash=False)
            self.sent[value.digest] = known
        found = [self.sent[value.digest] for value in shared]
        while len(self.sent) > max(MOST_OPENED, len(shared)):
            self.sent.popitem(last=False)
        return found


def connected(address: str, patience_s: float = PATIENCE_S) -> Connection:
    """Return a cluster whose workers compute with what this process computes with.

    Raises
    ------
    ConfigError, ClusterError
        As `on_cluster`.
    """
    _import_dask()
    connection = _connect(address, patience_s)
    if connection.client.status != "running":  # the one of a call before
        _connect.cache_clear()
        connection = _connect(address, patience_s)
    try:
        connection.client.wait_for_workers(1, timeout=patience_s)
    except TimeoutError:
        raise ClusterError(
            _OPTION,
            "must have a worker",
            got=f"none at {address} in {patience_s:g} s",
            hint=f"start some: dask worker {address}",
        ) from None
    _check_versions(connection.client, address)
    return connection


def _import_dask() -> None:
    try:
        import dask

        dask.config.set({"logging.distributed": "critical"})  # what is wrong is ours to say
        import distributed  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            _OPTION,
            "must have Dask",
            got=f"no module {error.name}",
            hint="install vta-flow[dask]",
        ) from None


@lru_cache(maxsize=1)
def _connect(address: str, patience_s: float) -> Connection:
    """Connect; the connection of a process is kept, and with it what workers have."""
    from distributed import Client

    try:
        kind = asyncio.run(asyncio.wait_for(_kind(address, patience_s), patience_s + 1))
    except (ValueError, TypeError) as error:
        raise ConfigError(
            _OPTION,
            "must be the address of a Dask scheduler",
            got=f"{address or 'nothing'}: {error}",
            hint="give one like tcp://host:8786, which dask scheduler writes when it starts",
        ) from None
    except Exception:  # of the transport: it has no end of kinds
        kind = ""
    if kind != "Scheduler":
        raise ClusterError(
            _OPTION,
            "must be the address of a Dask scheduler that runs",
            got=f"{address}, where {f'a {kind} answers' if kind else 'none answers'}",
            hint="start one with dask scheduler, and give the address that it writes",
        )
    return Connection(Client(address, timeout=patience_s, set_as_default=False))


async def _kind(address: str, patience_s: float) -> str:
    """Return what Dask calls whoever answers at an address."""
    from distributed.comm import connect
    from distributed.security import Security

    own = Security().get_connection_args("client")
    comm = await connect(address, timeout=patience_s, **own)
    try:
        await comm.write({"op": "identity", "reply": True})
        return str((await comm.read())["type"])
    finally:
        await comm.close()


def _check_versions(client: Any, address: str) -> None:
    """Compare what the scheduler and each worker compute with to this process.

    Raises
    ------
    ClusterError
        When one has another version.
    """
    import cloudpickle

    cloudpickle.register_pickle_by_value(facts_module)  # whatever is installed there
    own = facts(LIBRARIES)
    found = {"the scheduler": client.run_on_scheduler(facts, LIBRARIES)}
    found |= client.run(facts, LIBRARIES)
    for who, other in found.items():
        if (what := difference(own, other)) is not None:
            _refuse(who, address, what, own)


def _refuse(who: str, address: str, what: tuple[str, str], own: Mapping[str, str]) -> NoReturn:
    name, value = what
    raise ClusterError(
        _OPTION,
        f"must have {name} {own[name]} everywhere, as here",
        got=f"{value} on {who} of {address}" if who == "the scheduler" else f"{value} on {who}",
        hint="install the same versions there, or results would differ",
    )
