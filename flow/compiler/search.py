"""Schedule search: what the cost model shortlists, timed by tsim, kept in a cache.

The model (tiling.py) is within a percent where COMPUTE binds; where LOAD and COMPUTE are about
even, which of two tilings overlaps better is for the simulator to say. Each layer is compiled alone
with each tiling of its shortlist and timed; the fewest bytes win among equals. A first layer is
timed with its input in each form before. The result depends on nothing but layer and machine, so it
can be kept.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from flow.compiler.cost import Tiling, objective_cost
from flow.compiler.input_choice import first_layers, in_forms
from flow.compiler.lower import Lowering
from flow.compiler.operators.table import LOWERERS
from flow.compiler.planes import int8_range
from flow.compiler.schedule import Schedule
from flow.compiler.shapes import Objective
from flow.compiler.tiling import fastest, is_candidate, shortlist
from flow.program.input_form import InputForm
from flow.sim.tsim import time_insns
from flow.system.files import locked, write_atomic
from relay_passes.partition.layers import Subgraph, TensorSpec
from vta_config.errors import ArtifactError
from vta_config.files import read_bounded
from vta_config.isa import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.workbench import Residents
    from vta_config.hardware import VTAConfig

#: Yields what a function makes of each layer, in order.
Each: TypeAlias = (
    "Callable[[Callable[[NormalLayer], Tiling], Iterable[NormalLayer]], Iterable[Tiling]]"
)
#: Tilings of a layer that are timed, beside the model's own.
SHORTLIST: Final = 10
#: Larger caches are not read.
MAX_CACHE_BYTES: Final = 1 << 24
#: Part of every key: raise it when lowering or the timing model changes.
VERSION: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiling:
    """How programs are compiled.

    Parameters
    ----------
    objective : {"balanced", "latency"}
        What the forms of inputs are chosen by: cycles and bytes, or cycles alone.
    schedules : Path, optional
        Search tilings with tsim and keep them in this file; by default the cost model chooses.
    """

    objective: Objective = "balanced"
    schedules: Path | None = None

    def schedule(self, subgraph: Subgraph, config: VTAConfig, each: Each = map) -> Schedule:
        """Return the schedule of a subgraph; `each` as for `search`.

        Raises
        ------
        CapacityError, UnsupportedModelError
            As `search`, where it is searched.
        """
        if self.schedules is None:
            return Schedule(objective=self.objective)
        return search(subgraph, config, objective=self.objective, cache=self.schedules, each=each)


def search(
    subgraph: Subgraph,
    config: VTAConfig,
    *,
    objective: Objective = "balanced",
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
    each: Each = map,
) -> Schedule:
    """Return the best form of every input, and the best tiling of every convolution on it.

    A convolution with a pool inside keeps the tiling of the model.

    Parameters
    ----------
    subgraph : Subgraph
    config : VTAConfig
        Its `timing` profile is what tsim models.
    objective : {"balanced", "latency"}
        What the forms of inputs are chosen by: cycles and bytes, or cycles alone.
    cache : Path, optional
        A JSON file that results are kept in, by a hash of layer and machine.
    progress : callable, optional
        Called with layers done and in all.
    each : callable (function, items), optional
        Yields ``function(item)`` of each item in order, such as by several workers.

    Raises
    ------
    CapacityError
        When a layer does not fit the machine.
    UnsupportedModelError
        When a post-op needs what the machine does not have.
    """
    known = _read(cache)
    plain = Lowering(subgraph, config, Schedule(objective=objective, forms={}))
    forms = {}
    for name, normal in first_layers(subgraph, plain.layers):
        key = _key(normal, plain.residents, config)
        if not _form_fits(known, key, normal, plain.residents, config):
            known.forms[key] = _best_form(normal, plain.residents, config)
            _keep(cache, known)
        if (form := known.forms[key]) is not None:
            forms[name] = form
    lowering = Lowering(subgraph, config, Schedule(objective=objective, forms=forms))
    residents = lowering.residents
    layers = [p for p in lowering.layers if LOWERERS[p.layer.kind].searched and p.pool is None]
    keys = [_key(normal, residents, config) for normal in layers]
    missing = {
        key: normal
        for key, normal in zip(keys, layers, strict=True)
        if not is_candidate(known.tilings.get(key), normal.shape, residents.capacity_of(normal))
    }
    found = iter(each(partial(_best, residents=residents, config=config), list(missing.values())))
    tilings: dict[str, Tiling] = {}
    for index, (key, normal) in enumerate(zip(keys, layers, strict=True)):
        if missing.pop(key, None) is not None:  # in the order of `found`; of equal layers the first
            known.tilings[key] = next(found)
            _keep(cache, known)
        tilings[normal.layer.name] = known.tilings[key]
        if progress is not None:
            progress(index + 1, len(layers))
    return Schedule(objective=objective, tilings=tilings, forms=forms)


def _best_form(normal: NormalLayer, residents: Residents, config: VTAConfig) -> InputForm | None:
    choices = in_forms(normal, config, residents.capacity_of(normal))
    choices.sort(key=lambda c: objective_cost(c[0], residents.capacity))
    timed = [
        (
            objective_cost(
                estimate._replace(cycles=_cycles(changed, None, config)), residents.capacity
            ),
            changed.form,
        )
        for estimate, changed in choices[:SHORTLIST]
    ]
    return min(timed, key=lambda t: t[0], default=(0.0, None))[1]


def _best(normal: NormalLayer, residents: Residents, config: VTAConfig) -> Tiling:
    capacity, name = residents.capacity_of(normal), normal.layer.name
    candidates = shortlist(normal.shape, capacity, SHORTLIST, name)
    timed = [
        (estimate._replace(cycles=_cycles(normal, tiling, config)), tiling)
        for estimate, tiling in candidates
    ]
    return fastest(timed)


def _cycles(normal: NormalLayer, tiling: Tiling | None, config: VTAConfig) -> int:
    """Compile a layer alone, with its pool if it has one, and time it."""
    layer, last = normal.layer, normal.last
    shapes = [layer.in_shape, *(product.in_shape for product in layer.summands)]
    shapes += [layer.out_shape] * (len(layer.inputs) - len(shapes))
    inputs = dict(zip(layer.inputs, shapes, strict=True))
    ranges = {name: int8_range(normal.planes.get(name), config) for name in inputs}
    alone = Subgraph(
        symbol="alone",
        inputs=tuple(
            TensorSpec(name=n, shape=s, dtype="int8", low=ranges[n][0], high=ranges[n][1])
            for n, s in inputs.items()
        ),
        outputs=(TensorSpec(name=last.output, shape=last.out_shape, dtype=last.out_dtype),),
        layers=(layer,) if normal.pool is None else (layer, normal.pool),
    )
    schedule = Schedule(
        tilings={} if tiling is None else {layer.name: tiling},
        forms={} if normal.form is None else {layer.inputs[0]: normal.form},
    )
    lowered = Lowering(alone, config, schedule, timing_only=True).run()
    cycles, _ = time_insns(config, b"".join(encode(insn, config) for insn in lowered.insns))
    return cycles


def _key(normal: NormalLayer, residents: Residents, config: VTAConfig) -> str:
    machine = {k: v for k, v in config.to_json().items() if k not in ("NAME", "CLOCK_HZ")}
    passes = [(type(p).__name__, p.passes) for p in normal.epilogue]
    terms = [(r.terms, r.exponent) for r in normal.residuals]
    pool = normal.pool and (normal.pool.kernel, normal.pool.stride, normal.pool.padding)
    shape = (normal.shape, normal.layer.in_shape, normal.last.out_dtype, pool)
    facts = (VERSION, *shape, residents.capacity_of(normal), passes, terms, machine)
    return sha256(repr(facts).encode()).hexdigest()


@dataclass(slots=True)
class _Known:
    """What has been searched: tilings by layer, forms by plain layer."""

    tilings: dict[str, Tiling] = field(default_factory=dict)
    forms: dict[str, InputForm | None] = field(default_factory=dict)


def _read(cache: Path | None) -> _Known:
    """Read the cache; what cannot be read is searched again.

    Whether what it holds fits a layer is for `is_candidate` and `_form_fits` to say.
    """
    if cache is None:
        return _Known()
    try:
        entries = json.loads(read_bounded(cache, MAX_CACHE_BYTES).decode("utf-8"))
        return _Known(
            {key: _tiling(fields) for key, fields in entries["tilings"].items()},
            {key: _form(fields) for key, fields in entries["forms"].items()},
        )
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return _Known()


def _tiling(fields: dict[str, object]) -> Tiling:
    """Read a tiling: whole numbers, and a truth value; not 1.0, which equals 1."""
    tiling = Tiling(**fields)  # type: ignore[arg-type]  # checked next
    kinds = {name: type(value) for name, value in asdict(tiling).items()}
    if kinds.pop("oc_outer") is not bool or set(kinds.values()) != {int}:
        raise TypeError("a tiling has whole numbers")
    return tiling


def _form(fields: dict[str, list[int]] | None) -> InputForm | None:
    """Read a form: pairs of whole numbers, and the number around them."""
    if fields is None:
        return None
    fill = fields.pop("fill", 0)
    if type(fill) is not int or any(
        len(f) != 2 or {type(v) for v in f} != {int} for f in fields.values()
    ):
        raise TypeError("a form has pairs of whole numbers")
    return InputForm(**{name: (f[0], f[1]) for name, f in fields.items()}, fill=fill)


def _form_fits(
    known: _Known, key: str, normal: NormalLayer, residents: Residents, config: VTAConfig
) -> bool:
    """Tell whether a form is known that a search could have found."""
    if key not in known.forms:
        return False
    choices = [
        changed.form for _, changed in in_forms(normal, config, residents.capacity_of(normal))
    ]
    return known.forms[key] in (choices or [None])


def _keep(cache: Path | None, known: _Known) -> None:
    """Add what was found to the cache, beside what other runs have put there meanwhile.

    It is written after every layer, so that a search that is stopped need not start again.
    """
    if cache is None:
        return
    with contextlib.suppress(OSError, ArtifactError):  # it saves time: no reason to end a run
        with locked(cache):
            theirs = _read(cache)
            known.tilings = theirs.tilings | known.tilings
            known.forms = theirs.forms | known.forms
            entries = {
                "tilings": {key: asdict(tiling) for key, tiling in sorted(known.tilings.items())},
                "forms": {key: form and asdict(form) for key, form in sorted(known.forms.items())},
            }
            write_atomic(cache, json.dumps(entries, indent=1).encode(), hint="choose a --cache")
