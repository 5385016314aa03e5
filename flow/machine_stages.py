"""The stages from integers to programs, for one machine; `flow.pipeline` has the order of all."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from flow.cache.quantized import kept_programs
from flow.cache.store import Cache
from flow.compiler.codegen import compile_function
from relay_passes.integers.integer_facts import quantization_plan
from relay_passes.partition.partition import partition
from relay_passes.partition.read import FoundLayers, annotated_functions, find_layers
from relay_passes.stage import Stage

if TYPE_CHECKING:
    from pathlib import Path

    from flow.compiler.search import Each
    from flow.compiler.shapes import Objective
    from flow.program.program import Program
    from relay_passes.integers.plan import QuantPlan
    from vta_config.hardware import VTAConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    """What the stages from integers to programs hand on."""

    quantized: Any
    config: VTAConfig
    schedules: Path | None
    objective: Objective
    cache: Cache
    each: Each = map
    plan: QuantPlan | None = None
    found: FoundLayers | None = None
    partitioned: Any = None
    programs: tuple[Program, ...] = ()


def _partition(state: Compilation) -> Compilation:
    found = find_layers(state.quantized, state.config)
    partitioned = partition(state.quantized, state.config, found)
    plan = quantization_plan(state.quantized)
    return replace(state, plan=plan, found=found, partitioned=partitioned)


def _compile(state: Compilation) -> Compilation:
    found, config = state.found, state.config
    functions = annotated_functions(state.partitioned)

    def make() -> list[Program]:
        return [
            replace(
                compile_function(
                    function, config, state.schedules, state.objective, found, state.each
                ),
                plan=state.plan,
            )
            for function in functions
        ]

    programs = kept_programs(
        # Searched schedules are kept themselves.
        state.cache if state.schedules is None else Cache(None),
        state.quantized,
        (config, state.objective),
        [str(function.attrs["global_symbol"]) for function in functions],
        make,
    )
    return replace(state, programs=programs)


#: From integers to programs, for one machine.
MACHINE_STAGES: Final[tuple[Stage[Compilation], ...]] = (
    Stage(
        name="partition",
        about="the module with the operators for VTA grouped into functions",
        run=_partition,
        result=lambda state: state.partitioned,
    ),
    Stage(
        name="compile",
        about="the instructions of each function for VTA",
        run=_compile,
        result=lambda state: state.programs,
    ),
)
