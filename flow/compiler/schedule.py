"""Schedule search: tilings that the cost model shortlists, timed by tsim, kept in a cache.

The model (tiling.py) is within a percent where COMPUTE binds; where LOAD and COMPUTE are about
even, which of two tilings overlaps better is for the simulator to say. Each layer is compiled alone
with each tiling of its shortlist and timed; the fewest bytes win among equals. The result depends
on nothing but layer and machine, so it can be kept.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flow.compiler.lower import Lowering
from flow.compiler.tiling import Tiling, fastest, shortlist
from flow.sim.tsim import time_insns
from relay_passes.params import Subgraph, TensorSpec
from vta_config.isa import encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from flow.compiler.prepare import Prepared
    from vta_config.hardware import VTAConfig

#: Tilings of a layer that are timed.
SHORTLIST: Final = 10
#: Part of every key: raise it when lowering or the timing model changes.
VERSION: Final = 1


def search(
    subgraph: Subgraph,
    config: VTAConfig,
    *,
    cache: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Tiling]:
    """Return the best tiling of every convolution and dense layer, by the layer's name.

    Parameters
    ----------
    subgraph : Subgraph
    config : VTAConfig
        Its `timing` profile is what tsim models.
    cache : Path, optional
        A JSON file that results are kept in, by a hash of layer and machine.
    progress : callable, optional
        Called with layers done and in all.
    """
    lowering = Lowering(subgraph, config)
    work = [p for p in lowering.work if p.shape.ic and p.pool is None]
    known = _read(cache)
    found: dict[str, Tiling] = {}
    for index, prepared in enumerate(work):
        key = _key(prepared, lowering, config)
        if key not in known:
            known[key] = _best(prepared, lowering, config)
        found[prepared.layer.name] = known[key]
        if progress is not None:
            progress(index + 1, len(work))
    if cache is not None:
        _write(cache, known)
    return found


def _best(prepared: Prepared, lowering: Lowering, config: VTAConfig) -> Tiling:
    candidates = shortlist(prepared.shape, lowering.room_of(prepared), SHORTLIST)
    timed = [
        (estimate._replace(cycles=_cycles(prepared, tiling, config)), tiling)
        for estimate, tiling in candidates
    ]
    return fastest(timed)


def _cycles(prepared: Prepared, tiling: Tiling, config: VTAConfig) -> int:
    """Compile a layer alone and time it."""
    layer = prepared.layer
    shapes = [layer.in_shape, *[layer.out_shape] * (len(layer.inputs) - 1)]
    inputs = dict(zip(layer.inputs, shapes, strict=True))
    alone = Subgraph(
        symbol="alone",
        inputs=tuple(TensorSpec(name=n, shape=s, dtype="int8") for n, s in inputs.items()),
        outputs=(TensorSpec(name=layer.output, shape=layer.out_shape, dtype=layer.out_dtype),),
        layers=(layer,),
    )
    factors = {layer.inputs[0]: prepared.space_to_depth} if prepared.space_to_depth > 1 else {}
    lowered = Lowering(alone, config, tilings={layer.name: tiling}, input_factors=factors).run()
    cycles, _ = time_insns(config, b"".join(encode(insn, config) for insn in lowered.insns))
    return cycles


def _key(prepared: Prepared, lowering: Lowering, config: VTAConfig) -> str:
    machine = {k: v for k, v in config.to_json().items() if k not in ("NAME", "CLOCK_HZ")}
    passes = [type(p).__name__ for p in prepared.epilogue]
    terms = [r.terms for r in prepared.residuals]
    facts = (VERSION, prepared.shape, lowering.room_of(prepared), passes, terms, machine)
    return sha256(repr(facts).encode()).hexdigest()


def _read(cache: Path | None) -> dict[str, Tiling]:
    """Read the cache; what cannot be read is searched again."""
    try:
        entries = json.loads(cache.read_text(encoding="utf-8")) if cache else {}
        return {str(key): Tiling(**fields) for key, fields in entries.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write(cache: Path, known: dict[str, Tiling]) -> None:
    cache.parent.mkdir(parents=True, exist_ok=True)
    partial = cache.with_name(cache.name + ".partial")
    entries = {key: asdict(tiling) for key, tiling in sorted(known.items())}
    partial.write_text(json.dumps(entries, indent=1), encoding="utf-8")
    partial.replace(cache)
