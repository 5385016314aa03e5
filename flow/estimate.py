"""What a network costs on a machine, without any data: ``vta-flow estimate``.

The network is quantized on random tensors. What VTA computes does not depend on them: the programs
have the instructions of a deployment, except for shifts and constants, and where a requantization
ratio takes another number of additions. So cycles are exact for the program that was made here, and
those of a deployment are the same or very close; accuracy is not estimated at all.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from flow.data.datasets import random_images
from flow.explain.explain import Compiled
from flow.options import ESTIMATED_VARIANT, UNCALIBRATED, Options
from flow.pipeline import Pipeline
from flow.program.program import Program
from flow.results.estimate import Estimate, ProgramCost
from flow.results.latency import latency_of
from flow.session import compiling_of, open_model
from flow.sim.scratchpads import capacities, scratchpad_bytes
from flow.stages import Stages
from relay_passes.variants import KEEP, KEPT, STOCK_RELAY
from vta_config.hardware import VTAConfig

#: Random tensors that the network is calibrated on.
TENSORS: Final = 2


def estimate(options: Options, stages: Stages, variant: str | None = None) -> Estimate:
    """Quantize on random tensors, compile and time a variant; nothing is run.

    Parameters and errors are those of `estimated`.
    """
    return estimated(options, stages, variant)[0]


def estimated(
    options: Options, stages: Stages, variant: str | None = None
) -> tuple[Estimate, Compiled]:
    """Quantize on random tensors, compile and time a variant; also return what can be explained.

    Parameters
    ----------
    options : Options
        The model, the machine and how schedules are chosen.
    stages : Stages
        Measures and shows.
    variant : str, optional
        One of the variants. By default `ESTIMATED_VARIANT`, or `KEEP` for a model that is quantized
        already.

    Raises
    ------
    FlowError
        When the model or the machine cannot be used.
    """
    began = time.perf_counter()
    machine = VTAConfig.load(options.config)
    model = open_model(options, stages)
    variant = variant or (ESTIMATED_VARIANT if model.kept is None else KEEP)
    data = random_images(model.input_shape, TENSORS)
    how = compiling_of(options)
    pipeline = Pipeline(model, machine, schedules=how.schedules, objective=how.objective)
    calibrated = variant not in UNCALIBRATED
    if calibrated:
        with stages("calibrate", "calibrating on random tensors") as progress:
            pipeline.calibrate(data, lambda count: progress(count, len(data)))
    with stages("quantize", f"quantizing {variant}"):
        # As it stands: of candidates none is better on random tensors.
        own = variant in (STOCK_RELAY, *KEPT)
        quantized = pipeline.quantize(variant) if own else pipeline.form(variant)
    with stages("compile", f"compiling {variant}"):
        compiled = pipeline.compile(quantized)
    with stages("time", f"timing {variant}"):
        latency = latency_of(compiled.timed)
        peaks = scratchpad_bytes(compiled.programs)
    found = Estimate(
        model_name=model.name,
        model_sha256=model.sha256,
        input_shape=model.input_shape,
        inputs={value.name: value.shape for value in model.inputs},
        machine=machine,
        variant=variant,
        data=data.name if calibrated else "nothing",
        latency=latency,
        placement=compiled.placement,
        programs=_costs(compiled.programs, [sim.result.cycles for sim in compiled.timed]),
        scratchpad_bytes=peaks,
        scratchpad_capacity=capacities(machine),
        constant_bytes=sum(len(program.constants) for program in compiled.programs),
        seconds=time.perf_counter() - began,
    )
    return found, Compiled(pipeline=pipeline, variant=variant, model=compiled)


def _costs(programs: Sequence[Program], cycles: Sequence[int]) -> tuple[ProgramCost, ...]:
    return tuple(
        ProgramCost(
            symbol=program.symbol,
            cycles=own,
            layers=tuple(record.name for record in program.layers),
            kinds=tuple(record.kind for record in program.layers),
            input_bytes=sum(t.bytes_in(program.config) for t in program.inputs),
            output_bytes=sum(t.bytes_in(program.config) for t in program.outputs),
            arena_bytes=program.arena_bytes,
        )
        for program, own in zip(programs, cycles, strict=True)
    )
