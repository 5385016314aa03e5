"""A sweep: models × variants × machines, measured, compared, and gone on with where it stopped."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flow.compiler.search import Compiling
from flow.html.texts import plural
from flow.parallel.run import run_all
from flow.parallel.shared import Shared
from flow.results.evaluate import Metrics
from flow.results.sweep_document import SpaceFields, SweepFields, SweepRow, SweptModel
from flow.sweep.costs import Constants, area_of, usual_constants
from flow.sweep.journal import Journal
from flow.sweep.measure import (
    Measured,
    Network,
    Task,
    key_of_machine,
    measure,
    measure_module,
)
from flow.sweep.networks import Accuracy, Networks, Refused, accuracy_of, numbers_of
from flow.sweep.rows import (
    CONFIG,
    QUANTITIES,
    UNPRICED,
    VARIANT,
    Found,
    accuracy_fields,
    compared_of_rows,
    compared_rows,
    effect_fields,
    row_of,
)
from flow.sweep.space import Drawn, Machine, Space, draw
from flow.sweep.where import Condition
from flow.system.json_values import json_value
from vta_config.errors import ConfigError, LimitError

if TYPE_CHECKING:
    from flow.options import Options
    from flow.stages import Progress, Stages

#: Raised when a field of the document changes its meaning or goes away.
SCHEMA_VERSION: Final = 1
JOURNAL_FILE: Final = "measured.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is swept.

    Parameters
    ----------
    space : Space
        The machines.
    models : tuple of str
        Names or files.
    variants : tuple of str
        Empty: what an estimate takes.
    where : tuple of Condition
        Constraints.
    most : int, optional
        Machines to measure at most, drawn by `seed`.
    minutes : float, optional
        Time for measuring.
    seed : int
    compared : tuple of str
        What the front compares; accuracy only where there are images.
    constants : Constants
        Of the model of area and energy.
    how : Compiling
        How programs are made.
    jobs : int, optional
        Processes of this machine.
    cluster : str, optional
        The address of a Dask scheduler.
    fresh : bool
        Whether everything is measured anew.
    """

    space: Space
    models: tuple[str, ...]
    variants: tuple[str, ...] = ()
    where: tuple[Condition, ...] = ()
    most: int | None = None
    minutes: float | None = None
    seed: int = 0
    compared: tuple[str, ...] = QUANTITIES
    constants: Constants = field(default_factory=usual_constants)
    how: Compiling = field(default_factory=Compiling)
    jobs: int | None = None
    cluster: str | None = None
    fresh: bool = False


def compared_of(text: str) -> tuple[str, ...]:
    """Read what the front compares.

    Raises
    ------
    ConfigError
        When it is none of `QUANTITIES`.
    """
    names = [part.strip() for part in text.split(",")]
    for name in names:
        if name not in QUANTITIES:
            raise ConfigError(
                "--compare",
                f"must be among {', '.join(QUANTITIES)}",
                got=repr(name),
                hint="write them with commas between",
            )
    return tuple(name for name in QUANTITIES if name in names)


def sweep(options: Options, request: Request, stages: Stages, folder: Path) -> SweepFields:
    """Measure machines and compare them.

    Parameters
    ----------
    options : Options
        Images and all else but model and machine.
    request : Request
    stages : Stages
        Measures and shows.
    folder : Path
        Where ``measured.jsonl`` is kept: what is in it is not measured again.

    Raises
    ------
    LimitError
        When there are too many machines for no limit, or none can be measured.
    ConfigError
        When constraints leave no machine, or name what is not measured.
    FlowError
        When a model or its images cannot be used.
    """
    began = time.monotonic()
    deadline = None if request.minutes is None else began + 60 * request.minutes
    drawn = draw(
        request.space,
        [c for c in request.where if not c.measured],
        lambda machine: area_of(machine, request.constants).mm2,
        most=request.most,
        seed=request.seed,
        shuffled=request.minutes is not None,
    )
    journal = Journal(folder / JOURNAL_FILE, fresh=request.fresh)
    models: list[_Model] = []
    for index, name in enumerate(request.models):
        networks = Networks(replace(options, model=name), request.variants, stages)
        _check_names(request, networks)
        share = None
        if deadline is not None:  # what is left, for each model the same
            left = max(0.0, deadline - time.monotonic())
            share = time.monotonic() + left / (len(request.models) - index)
        models.append(_Model(networks, request, drawn, journal, stages, share))
        models[-1].measure()
    return _document(request, drawn, models, time.monotonic() - began)


def _check_names(request: Request, networks: Networks) -> None:
    """Check that constraints name nothing that is not measured."""
    if networks.images is not None:
        return
    for condition in request.where:
        for name in ("accuracy", "sqnr"):
            if name in condition.names:
                raise ConfigError(
                    f"--where {condition.text!r}",
                    "must name what is measured",
                    got=f"{name}, for {networks.model.name} without images",
                    hint="give --images DIR and --calibration DIR",
                )


class _Model:
    """One model on all machines."""

    def __init__(
        self,
        networks: Networks,
        request: Request,
        drawn: Drawn,
        journal: Journal,
        stages: Stages,
        deadline: float | None,
    ) -> None:
        self.networks, self._request, self._drawn = networks, request, drawn
        self._journal, self._stages, self._deadline = journal, stages, deadline
        self._pairs = [(m, v) for v in networks.variants for m in drawn.machines]
        self._measured: dict[tuple[int, str], Measured] = {}
        self._accuracy: dict[str, Accuracy] = {}
        self.resumed = 0

    def measure(self) -> None:
        """Quantize, compile and time, then run what can be run."""
        waiting: dict[str, list[tuple[Machine, str]]] = {}
        tasks: dict[str, tuple[str, Network, Task]] = {}  # by what they depend on
        for machine, variant in self._in_groups():
            assert machine.machine is not None
            network = self.networks.of(variant, machine.machine)
            if isinstance(network, Refused):
                self._measured[machine.number, variant] = Measured(work=None, reason=network.reason)
                continue
            key = key_of_machine(network, machine.machine, self._request.how)
            known = self._journal.get(key, Measured.from_json)
            if known is not None:
                self._measured[machine.number, variant] = known
                self.resumed += 1
                continue
            same = key or f"{network.digest} {machine.number}"
            waiting.setdefault(same, []).append((machine, variant))
            tasks.setdefault(
                same, (key, network, Task(digest=network.digest, machine=machine.machine))
            )
        order = self._order(waiting)
        for same, found in zip(order, self._run([tasks[s] for s in order]), strict=False):
            if not found.internal:
                self._journal.add(tasks[same][0], found.to_json())
            for machine, variant in waiting[same]:
                self._measured[machine.number, variant] = found
        if self.networks.images is not None:
            self._run_images()

    def _in_groups(self) -> list[tuple[Machine, str]]:
        """Return what can be built so that machines with the same integers come together."""
        built = [(m, v, numbers_of(m.machine)) for m, v in self._pairs if m.machine is not None]
        groups = list(dict.fromkeys(numbers for *_, numbers in built))
        return [
            (m, v) for _, m, v in sorted(
                ((groups.index(n), m, v) for m, v, n in built), key=lambda item: item[0]
            )
        ]  # fmt: skip

    def _order(self, waiting: Mapping[str, Sequence[tuple[Machine, str]]]) -> list[str]:
        """Return the tasks in the order in which machines were drawn."""
        places = {machine.number: k for k, machine in enumerate(self._drawn.machines)}
        return sorted(waiting, key=lambda same: min(places[m.number] for m, _ in waiting[same]))

    def _run(self, tasks: Sequence[tuple[str, Network, Task]]) -> Iterator[Measured]:
        """Yield what is measured, in order, until the time is over."""
        if not tasks:
            return
        request, how = self._request, self._request.how
        sent = {network.digest: network.arrays for _, network, _ in tasks}
        text = f"compiling and timing {self.networks.model.name}"
        found: Iterator[Measured]
        with self._stages("measure", text) as progress:
            if None in sent.values():  # a network that no other process can have
                found = (
                    measure_module(network.module, task.machine, how) for _, network, task in tasks
                )
            else:
                found = run_all(
                    partial(measure, Shared.of(sent), how),
                    [task for *_, task in tasks],
                    jobs=request.jobs,
                    cluster=request.cluster,
                )
            yield from self._until_over(found, tasks, progress)

    def _until_over(
        self,
        found: Iterator[Measured],
        tasks: Sequence[tuple[str, Network, Task]],
        progress: Progress,
    ) -> Iterator[Measured]:
        progress(0, len(tasks))
        try:
            for done, (measured, (*_, task)) in enumerate(zip(found, tasks, strict=True), 1):
                work = measured.work
                told = "failed" if work is None else f"{work.cycles:,} cycles"
                progress(done, len(tasks), f"{task.machine.name}: {told}")
                yield measured
                if self._deadline is not None and time.monotonic() > self._deadline:
                    return
        finally:
            close = getattr(found, "close", None)
            if close is not None:
                close()

    def _run_images(self) -> None:
        """Measure the accuracy of each network that some machine takes, once."""
        for machine, variant in self._in_groups():
            measured = self._measured.get((machine.number, variant))
            if measured is None or measured.work is None or machine.machine is None:
                continue
            network = self.networks.of(variant, machine.machine)
            assert isinstance(network, Network)
            if network.digest in self._accuracy:
                continue
            key = self.networks.accuracy_key(network)
            metrics = self._journal.get(key, Metrics.from_json)
            if metrics is None:
                metrics = self.networks.accuracy(variant, network, machine.machine)
                self._journal.add(key, asdict(metrics))
            self._accuracy[network.digest] = accuracy_of(metrics)

    def rows(self, name: str) -> list[SweepRow]:
        """Return a row for each machine and variant."""
        result = []
        after = [c for c in self._request.where if c.measured]
        for machine, variant in self._pairs:
            measured = self._measured.get((machine.number, variant))
            accuracy = None
            if measured is not None and measured.work is not None:
                assert machine.machine is not None
                network = self.networks.of(variant, machine.machine)
                assert isinstance(network, Network)
                accuracy = self._accuracy.get(network.digest)
            found = Found(
                machine=machine, model=name, variant=variant, measured=measured, accuracy=accuracy
            )
            result.append(row_of(found, self._request.constants, after))
        return result

    def fields(self, name: str) -> SweptModel:
        """Return what the document says of the model."""
        model, reference = self.networks.model, self.networks.reference
        return SweptModel(
            name=name,
            sha256=model.sha256,
            input_shape=model.input_shape,
            calibrated_on=self.networks.calibrated_on,
            float32=None if reference is None else accuracy_fields(accuracy_of(reference)),
        )


def _names(models: Sequence[_Model]) -> list[str]:
    """Return names that tell the models apart."""
    names = [m.networks.model.name for m in models]
    return [
        name if names.count(name) == 1 else f"{name} ({m.networks.model.sha256[:8]})"
        for name, m in zip(names, models, strict=True)
    ]


def _document(
    request: Request, drawn: Drawn, models: Sequence[_Model], seconds: float
) -> SweepFields:
    """Compare the rows of each model, and join all."""
    rows: list[SweepRow] = []
    effects = []
    variants = tuple(dict.fromkeys(v for m in models for v in m.networks.variants))
    axes = {VARIANT: variants, CONFIG: tuple(request.space.machines), **request.space.axes}
    names = _names(models)
    all_compared: dict[str, None] = {}
    for name, model in zip(names, models, strict=True):
        own = model.rows(name)
        measured = [row for row in own if row.state == "measured"]
        compared = compared_of_rows(measured, request.compared)
        all_compared |= dict.fromkeys(compared)
        own = compared_rows(own, compared)
        effects += effect_fields(name, own, compared, axes)
        rows += own
    if not any(row.state in ("measured", "outside") for row in rows):
        failed = next((row for row in rows if row.reason), None)
        raise LimitError(
            "sweep",
            "must have a machine that can be measured",
            got=f"none of {len(rows):,}" + ("" if failed is None else f"; {failed.reason}"),
            hint="choose other machines, or ask vta-flow estimate MODEL --explain for the reasons",
        )
    return SweepFields(
        schema_version=SCHEMA_VERSION,
        models=tuple(m.fields(name) for name, m in zip(names, models, strict=True)),
        axes={name: values for name, values in axes.items() if name != VARIANT},
        where=tuple(c.text for c in request.where),
        space=SpaceFields(
            machines=drawn.total,
            left_out=drawn.left_out,
            sampled=drawn.sampled,
            seed=drawn.seed,
        ),
        constants=json_value(request.constants),
        compared=tuple(q for q in request.compared if q in all_compared),
        rows=tuple(rows),
        effects=tuple(effects),
        remarks=tuple(_remarks(request, drawn, models, rows)),
        seconds=round(seconds, 3),
    )


def _remarks(
    request: Request, drawn: Drawn, models: Sequence[_Model], rows: Sequence[SweepRow]
) -> Iterator[str]:
    """Say what a reader must know."""
    states = [row.state for row in rows]
    counts = (
        f"{states.count('measured') + states.count('outside'):,} of {len(rows):,} rows measured"
    )
    if failed := states.count("failed"):
        counts += f", {failed:,} failed"
    if outside := states.count("outside"):
        counts += f", {outside:,} outside a constraint"
    if waiting := states.count("waiting"):
        counts += f", {waiting:,} not measured in {request.minutes:g} minutes"
    yield counts
    if drawn.sampled:
        yield f"machines drawn from {drawn.total:,} by seed {drawn.seed}"
    if drawn.left_out:
        yield f"{drawn.left_out:,} machines left out by constraints before measuring"
    if resumed := sum(m.resumed for m in models):
        yield f"{plural(resumed, 'row')} from the run before"
    internal = [row for row in rows if row.reason.startswith("internal error")]
    if internal:
        yield (
            f"{len(internal):,} rows failed by an internal error; vta-flow estimate with such a "
            "machine shows its traceback"
        )
    free = compared_of_rows([row for row in rows if row.state == "measured"], UNPRICED)
    if free:
        words = " and ".join({"bus": "a wider bus", "clock": "a faster clock"}[q] for q in free)
        kept = all(q in request.compared for q in free)
        verb = "costs" if len(free) == 1 else "cost"
        yield f"{words} {verb} nothing in the model of area and energy: " + (
            f"no machine dominates one with less ({', '.join(free)})"
            if kept
            else f"compare machines with the same {' and '.join(free)}"
        )
    bits = len({_bits(row) for row in rows if row.machine is not None}) > 1
    if not any(row.accuracy for row in rows) and (bits or len({r.variant for r in rows}) > 1):
        yield (
            "no accuracy was measured, so what fewer bits harm is not compared: give --images and "
            "--calibration"
        )


def _bits(row: SweepRow) -> tuple[int, int]:
    assert row.machine is not None
    return row.machine.inp_bits, row.machine.wgt_bits
