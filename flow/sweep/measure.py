"""One network on one machine: compiled and timed, in whatever process this runs.

The programs have the instructions of a deployment; zeros stand for weights, which the timing does
not depend on. So the cycles are those that ``vta-flow estimate`` shows for the machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from flow.cache.keys import key_of
from flow.cache.modules import UnknownModuleError, module_digest, packed, unpacked
from flow.compiler.link import make_program
from flow.compiler.lower import Lowering
from flow.compiler.search import Compiling
from flow.parallel.shared import Shared
from flow.sim.tsim import TSim
from flow.sweep.work import Work, work_of
from flow.system.limits import UNLIMITED
from relay_passes.integers.integer_facts import without_plan
from relay_passes.partition.fallbacks import host_work
from relay_passes.partition.partition import partition
from relay_passes.partition.read import annotated_functions, find_layers, subgraph_of
from vta_config.errors import FlowError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from relay_passes.graph import Module
    from vta_config.hardware import VTAConfig

#: Networks that a process keeps unpacked.
_KEPT: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """An integer network.

    Parameters
    ----------
    digest : str
        Of everything in it; the same for the same integers.
    module : IRModule
    arrays : mapping of str to array, optional
        The module as `flow.cache.modules` writes it, for other processes; None where that cannot.
    """

    digest: str
    module: Module
    arrays: Mapping[str, NDArray[Any]] | None

    @classmethod
    def of(cls, module: Module) -> Network:
        """Pack a module; what led to its integers is left out."""
        module = without_plan(module)
        try:
            return cls(digest=module_digest(module), module=module, arrays=packed(module))
        except UnknownModuleError:
            return cls(digest=f"only here {id(module)}", module=module, arrays=None)


class Opened:
    """Networks in a worker, each made a module when it is asked for first.

    Parameters
    ----------
    arrays : mapping of str to mapping
        Packed modules by digest.
    """

    def __init__(self, arrays: Mapping[str, Mapping[str, NDArray[Any]]]) -> None:
        """Unpack nothing yet."""
        self._arrays = arrays
        self._modules: dict[str, Module] = {}

    def module(self, digest: str) -> Module:
        """Return a module; the last few are kept."""
        if digest not in self._modules:
            while len(self._modules) >= _KEPT:
                self._modules.pop(next(iter(self._modules)))
            self._modules[digest] = unpacked(self._arrays[digest])
        return self._modules[digest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured of a network on a machine.

    Parameters
    ----------
    work : Work, optional
        None where it failed.
    macs, vta_macs : int
        Multiply-accumulates for one image: all, and those on VTA.
    host_operators : int
        Operators that fell back to the host.
    programs : int
        VTA programs; the host works between two of them.
    reason : str
        Why it failed; "" where it did not.
    internal : bool
        Whether that is a fault of this package, so that it says nothing of the machine.
    seconds : float
        What measuring took.
    """

    work: Work | None
    macs: int = 0
    vta_macs: int = 0
    host_operators: int = 0
    programs: int = 0
    reason: str = ""
    internal: bool = False
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Measured:
        """Return what `to_json` made.

        Raises
        ------
        Exception
            When it is something else.
        """
        work = None if value["work"] is None else Work.from_json(value["work"])
        found = cls(**{**value, "work": work})
        numbers = (found.macs, found.vta_macs, found.host_operators, found.programs)
        if not all(isinstance(n, int) for n in numbers) or not isinstance(found.reason, str):
            raise TypeError("not the values of Measured")
        if (work is None) != bool(found.reason):
            raise ValueError("work or a reason")
        return found


def key_of_machine(network: Network, machine: VTAConfig, how: Compiling) -> str:
    """Return what a measurement depends on; "" where it has no key. Name and clock do not count."""
    if network.arrays is None:
        return ""
    same = replace(machine, name="", clock_hz=1.0)
    return key_of("machine", network.digest, same, how.objective, how.schedules is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A network, by its digest, to measure on a machine."""

    digest: str
    machine: VTAConfig


def measure(networks: Shared, how: Compiling, task: Task) -> Measured:
    """Compile and time a network for a machine; what fails is told in the result.

    Parameters
    ----------
    networks : Shared
        Packed modules by digest.
    how : Compiling
    task : Task
    """
    began = time.perf_counter()
    try:
        module = networks.opened(Opened).module(task.digest)
    except Exception as error:
        return _failed(error, began)
    return measure_module(module, task.machine, how, began)


def measure_module(
    module: Module, machine: VTAConfig, how: Compiling, began: float | None = None
) -> Measured:
    """Do the same for a module of this process; `began` is when that did."""
    began = time.perf_counter() if began is None else began
    try:
        found = _measured(module, machine, how)
    except FlowError as error:
        found = Measured(work=None, reason=str(error))
    except Exception as error:  # of one machine; the others go on
        return _failed(error, began)
    return replace(found, seconds=round(time.perf_counter() - began, 3))


def _failed(error: Exception, began: float) -> Measured:
    kind, text = type(error).__name__, " ".join(str(error).split())
    reason = f"internal error: {kind}: {text}"
    seconds = round(time.perf_counter() - began, 3)
    return Measured(work=None, reason=reason, internal=True, seconds=seconds)


def _measured(module: Module, machine: VTAConfig, how: Compiling) -> Measured:
    found = find_layers(module, machine)
    host = host_work(module, machine, found)
    timed = []
    for function in annotated_functions(partition(module, machine, found)):
        subgraph = subgraph_of(function, machine, found)
        schedule = how.schedule(subgraph, machine)
        lowered = Lowering(subgraph, machine, schedule, timing_only=True).run()
        timed.append(TSim(make_program(subgraph, lowered, machine), limits=UNLIMITED))
    if not timed:
        return Measured(work=None, reason="nothing of the network runs on VTA")
    return Measured(
        work=work_of(timed),
        macs=host.macs,
        vta_macs=host.vta_macs,
        host_operators=len(host.fallbacks),
        programs=len(timed),
    )
