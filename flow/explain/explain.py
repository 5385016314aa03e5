"""Explain a network or a layer: why it is on the host, what bounds it, what would help."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flow.compiler.search import Compiling
from flow.explain.candidates import wider_bus
from flow.explain.find import aliases, by_name, namesakes, several, unknown
from flow.explain.parts import explained_layers
from flow.explain.what_if import Subject, WhatIf, machines_that_take, sort
from flow.explain.words import answered
from flow.results.explanation import Change, ExplainedLayer, Explanation, HostOperator
from flow.sim.tsim import layer_cycles
from relay_passes.names import layer_names
from relay_passes.partition.advice import advice_for

if TYPE_CHECKING:
    from flow.compiled_model import CompiledModel
    from flow.pipeline import Pipeline
    from flow.sim.tsim import TSim
    from flow.stages import Stages
    from relay_passes.partition.host_work import Fallback
    from vta_config.hardware import VTAConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A network that a pipeline compiled.

    Parameters
    ----------
    pipeline : Pipeline
        What quantized and compiled it.
    variant : str
        Its variant in that pipeline.
    model : CompiledModel
        What it became.
    """

    pipeline: Pipeline
    variant: str
    model: CompiledModel


def explain_network(
    compiled: Compiled, stages: Stages, layer: str = "", *, shown_variant: str = ""
) -> Explanation:
    """Explain a network, or one of its layers or operators on the host.

    Parameters
    ----------
    compiled : Compiled
    stages : Stages
        Measures and shows.
    layer : str
        Name of a layer, tensor or ONNX node; "" for the network.
    shown_variant : str
        What the variant is called, where that is not its name in the pipeline.

    Raises
    ------
    ConfigError
        When nothing is called `layer`, or several layers are.
    """
    model, pipeline = compiled.model, compiled.pipeline
    layers = [each for timed in model.timed for each in explained_layers(timed)]
    found = Explanation(
        model=pipeline.model.name,
        machine=model.config,
        variant=shown_variant or compiled.variant,
        cycles=sum(timed.cycles for timed in model.timed),
    )
    wanted: str | None = None
    others: Sequence[str] = ()
    if layer:
        chosen, others = _found(compiled, layer, [each.name for each in layers])
        if not isinstance(chosen, str):
            found = replace(found, layer=layer, host=(_told(chosen),))
            return answered(found, others=others, takers=_takers(compiled, chosen, stages))
        wanted = chosen
        found = replace(found, layer=wanted)
    shown = tuple(each for each in layers if wanted in (None, each.name))
    if not layer:
        found = replace(found, host=tuple(_told(operator) for operator in model.host.fallbacks))
    if not shown:
        return answered(found)
    with stages("explain", "trying other machines") as progress:
        what_if = WhatIf(
            subject=_subject(compiled, {each.name: each.cycles for each in layers}),
            layer=wanted,
        )
        changes = what_if.changes(progress)
    found = replace(found, layers=shown, alone=what_if.alone, changes=changes)
    return answered(found, part="" if layer == wanted else layer, others=others)


def _subject(compiled: Compiled, cycles: Mapping[str, int]) -> Subject:
    pipeline = compiled.pipeline
    return Subject(
        pipeline=pipeline,
        variant=compiled.variant,
        quantized=compiled.model.quantized,
        how=Compiling(objective=pipeline.objective, schedules=pipeline.schedules),
        cycles=cycles,
    )


def _takers(compiled: Compiled, operator: Fallback, stages: Stages) -> tuple[str, ...] | None:
    """Return the changes with which VTA takes what it refuses here; None for other operators."""
    owners = layer_names(compiled.model.quantized)
    anchors = [str(chain.anchor.var.name) for chain, _ in compiled.model.found.refused]
    layers = [owners.get(anchor, anchor) for anchor in anchors]
    name = owners.get(operator.name, operator.name)
    if name not in layers:
        return None
    with stages("explain", "trying other machines"):
        return machines_that_take(_subject(compiled, {}), name)


def _found(
    compiled: Compiled, name: str, layers: Sequence[str]
) -> tuple[str | Fallback, Sequence[str]]:
    """Return the layer on VTA or the operator on the host that a name means; others so called."""
    model, pipeline = compiled.model, compiled.pipeline
    host = (*model.host.before, *model.host.fallbacks, *model.host.behind)
    imported = pipeline.model
    named = aliases(
        model.quantized, model.found, layers, {**imported.origins, **pipeline.origins}, imported.mod
    )
    known = [*named, *(f.node or f.name for f in host)]

    def meant(text: str) -> str | Fallback:
        if text in layers:
            return text
        found = by_name(text, host) or named.get(text) or by_name(text, host, conversions=True)
        if not found:
            raise unknown(text, known)
        return found

    chosen, others = meant(name), namesakes(name, known)
    means = {_called(of): of for of in (chosen, *map(meant, others))}
    if len(means) > 1 and _called(chosen) != name:
        raise several(name, list(means))
    return chosen, [text for text in others if meant(text) != chosen]


def _called(found: str | Fallback) -> str:
    """Return what tables call a layer, or the tensor of an operator on the host."""
    return found if isinstance(found, str) else found.name


def explain_programs(timed: Sequence[TSim], name: str, layer: str = "") -> Explanation:
    """Explain programs without their model: of changes, only those that keep the instructions.

    Raises
    ------
    ConfigError
        When no layer is called `layer`.
    """
    layers = [each for sim in timed for each in explained_layers(sim)]
    names = [each.name for each in layers]
    if layer and layer not in names:
        raise unknown(layer, names)
    shown = tuple(each for each in layers if layer in ("", each.name))
    machine = timed[0].program.config
    found = Explanation(
        model=name,
        machine=machine,
        variant="",
        cycles=sum(sim.cycles for sim in timed),
        layer=layer or None,
        layers=shown,
        changes=sort([_with_wider_bus(timed, machine, shown)]),
    )
    return answered(found, kept=True, others=namesakes(layer, names))


def _with_wider_bus(
    timed: Sequence[TSim], machine: VTAConfig, shown: Sequence[ExplainedLayer]
) -> Change:
    """Time the same instructions on a machine with a wider bus."""
    candidate = wider_bus(machine)
    change = Change(name=candidate.name, sets=candidate.sets, reason=candidate.reason)
    if candidate.machine is None:
        return change
    base = {each.name: each.cycles for each in shown}
    then: dict[str, int] = {}
    for sim in timed:
        then |= layer_cycles(sim.program, candidate.machine, sim.profile)
    then = {name: then[name] for name in base}
    return change.over(base, then)


def _told(operator: Fallback) -> HostOperator:
    return HostOperator(
        name=operator.name,
        label=operator.label,
        reason=operator.reason,
        advice=advice_for(operator.reason),
    )
