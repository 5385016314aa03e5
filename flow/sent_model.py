"""A compiled model as it travels to a worker, which builds the executable again.

That takes a third of a second for a ResNet-18, and no compiler of C++.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from flow.cache.modules import UnknownModuleError, packed, unpacked
from flow.image_ranges import rows_elsewhere
from flow.program.program import Program
from flow.system.limits import UNLIMITED
from vta_config.hardware import VTAConfig

if TYPE_CHECKING:
    from flow.compiled_model import CompiledModel
    from flow.data.datasets import Dataset
    from flow.results.evaluate import Elsewhere, Logits, Network
    from flow.stages import Progress
    from flow.worker_request import Workers


@dataclass(frozen=True, slots=True, kw_only=True)
class SentModel:
    """A compiled model as plain values.

    Parameters
    ----------
    module : mapping of str to array
        The integer module.
    programs : tuple of bytes
        Files.
    machine : dict of str to value
        As JSON.
    engine : str
        What runs the programs; not ``driver``.
    """

    module: Mapping[str, NDArray[Any]]
    programs: tuple[bytes, ...]
    machine: dict[str, Any]
    engine: str

    @classmethod
    def of(cls, model: CompiledModel, engine: str) -> SentModel | None:
        """Return a model as it travels; None for one that has parts which are not written."""
        try:
            module = packed(model.quantized)
        except UnknownModuleError:
            return None
        return cls(
            module=module,
            programs=tuple(program.to_bytes() for program in model.programs),
            machine=model.config.to_json(),
            engine=engine,
        )

    def model(self) -> CompiledModel:
        """Return the model: the same integers and the same programs."""
        from flow.compiled_model import CompiledModel  # brings in TVM, as what follows
        from relay_passes.partition.fallbacks import host_work
        from relay_passes.partition.partition import partition
        from relay_passes.partition.read import find_layers

        config = VTAConfig.from_json(self.machine)
        quantized = unpacked(self.module)
        found = find_layers(quantized, config)
        return CompiledModel(
            quantized=quantized,
            partitioned=partition(quantized, config, found),
            found=found,
            config=config,
            programs=tuple(Program.from_bytes(p, limits=UNLIMITED) for p in self.programs),
            host=host_work(quantized, config, found),
        )


def model_elsewhere(
    model: CompiledModel, engine: str, data: Dataset, workers: Workers
) -> Elsewhere | None:
    """Return what runs a model on other cores or computers; None where it runs here."""
    sent = SentModel.of(model, engine) if workers.several else None
    return None if sent is None else rows_elsewhere(sent, start, data, workers)


def model_logits(
    model: CompiledModel, data: Dataset, values: int, workers: Workers, *, progress: Progress
) -> Logits:
    """Return the logits of a compiled model on fsim, here or elsewhere.

    Parameters
    ----------
    model : CompiledModel
    data : Dataset
    values : int
        Numbers that the model gives for an image.
    workers : Workers
    progress : callable
        Told how many images are done, and how many there are.
    """
    from flow.results.evaluate import Later, run_all

    elsewhere = model_elsewhere(model, "fsim", data, workers)
    return run_all(
        Later(model.network), data, values=values, progress=progress, elsewhere=elsewhere
    )


def start(sent: SentModel) -> Network:
    """Build the executable of a model that has travelled, and return what runs it."""
    return started(sent.model(), sent.engine)


def started(model: CompiledModel, engine: str) -> Network:
    """Return a model's network, run by an engine."""
    from flow.sim.core_library import vta_modules

    for module in vta_modules(model.executable.mod):
        module["set_engine"](engine, "")
    network: Network = model.network()
    return network
