"""The sentences of an explanation: what bounds it, how far it is from the best, what would help."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from flow.results.explanation import Answer, Change, Explanation, HostOperator
from vta_config.text import printable, shown_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: What bounds a layer whose cycles go there most, and what the machine does in them.
_BOUND: Final[Mapping[str, tuple[str, str]]] = {
    "gemm": ("the GEMM unit", "multiply inputs by weights"),
    "gemm_other": ("the GEMM unit", "clear accumulators, add biases or residuals, or pool"),
    "alu": ("the ALU", "shift, clip or compare"),
    "inp": ("the bus", "wait for inputs from DRAM"),
    "wgt": ("the bus", "wait for weights from DRAM"),
    "acc": ("the bus", "wait for accumulators from DRAM"),
    "uop": ("the bus", "wait for micro-ops from DRAM"),
    "memory": ("the latency of the memory", "wait for the first bytes of a read"),
    "out": ("the bus", "wait for outputs on their way to DRAM"),
    "fetch": ("fetching", "wait for instructions"),
    "pipeline": ("short instructions", "start and end GEMM and ALU instructions"),
    "between": ("small instructions", "pass between two instructions"),
}
#: What else takes cycles, in few words.
_ALSO: Final[Mapping[str, str]] = {
    "gemm": "GEMM steps",
    "gemm_other": "GEMM steps for clearing, biases, residuals and pooling",
    "alu": "ALU steps",
    "inp": "waiting for inputs",
    "wgt": "waiting for weights",
    "acc": "waiting for accumulators",
    "uop": "waiting for micro-ops",
    "memory": "waiting for the first bytes of reads",
    "out": "waiting for outputs to be written",
    "fetch": "waiting for instructions",
    "pipeline": "start and end of instructions",
    "between": "cycles between instructions",
}
_READ: Final = {"inp": "inputs", "wgt": "weights", "acc": "accumulators"}
#: The share of the cycles from which a part is named, and from which a change helps or harms.
_NAMED: Final = 0.05
WORTH: Final = 0.01
#: Changes that the answer names.
_HELPING: Final = 3
#: Others with the same name that a note lists.
_OTHERS: Final = 8
#: How often data must be read to be told.
_AGAIN: Final = 1.05


def answered(
    found: Explanation,
    *,
    part: str = "",
    kept: bool = False,
    others: Sequence[str] = (),
    takers: Sequence[str] | None = None,
) -> Explanation:
    """Return an explanation with its sentences.

    Parameters
    ----------
    found : Explanation
    part : str
        What was asked for, where it is a part of the layer that is explained.
    kept : bool
        Whether changes were tried on the same instructions.
    others : sequence of str
        What others with the same name are called.
    takers : sequence of str, optional
        Changes with which VTA runs an operator that is on the host; None where that was not tried.
    """
    if found.layer is not None and found.host:
        answers = tuple(_of_host(found.host[0], takers))
    else:
        answers = tuple(_answers(found, part, kept))
    if others:
        text = f"others have this name, too: {', '.join(map(shown_name, others[:_OTHERS]))}"
        answers += (Answer(about="note", text=text),)
    return replace(found, answers=answers)


def _of_host(operator: HostOperator, takers: Sequence[str] | None) -> Iterator[Answer]:
    yield Answer(about="runs on", text="the host")
    yield Answer(about="because", text=printable(operator.reason))
    yield Answer(about="what to do", text=operator.advice)
    if takers is not None:
        text = f"VTA runs it with: {', '.join(takers)}" if takers else "none of the other machines"
        yield Answer(about="would help", text=text)


def _answers(found: Explanation, part: str, kept: bool) -> Iterator[Answer]:
    if not found.layers:
        yield Answer(about="runs on", text="the host: no layer runs on VTA")
        return
    yield Answer(about="layer" if found.layer else "network", text=_what(found, part))
    yield Answer(about="bound by", text=bound_by(found.parts))
    yield Answer(about="at best", text=_at_best(found))
    if found.layer is not None and (reads := _reads(found)):
        yield Answer(about="reads", text=reads)
    yield Answer(about="would help", text=_helps(found))
    if kept:
        yield Answer(
            about="note",
            text="only what keeps the instructions was tried; vta-flow estimate MODEL --explain "
            "compiles the model for other buffers, blocks and bits",
        )


def _what(found: Explanation, part: str) -> str:
    cycles = found.shown_cycles
    ms = 1e3 * cycles / found.machine.clock_hz
    told = f"{cycles:,} cycles, {ms:,.3f} ms"
    if found.layer is None:
        return f"{shown_name(found.model)}, {len(found.layers):,} layers on VTA: {told}"
    (layer,) = found.layers
    share = 100 * cycles / found.cycles if found.cycles else 0.0
    name = f"{shown_name(layer.name)} ({layer.kind})"
    if part:
        name += f", which {shown_name(part)} is a part of"
    return f"{name}: {told}, {share:.1f} % of the network"


def bound_by(parts: Mapping[str, int]) -> str:
    """Return what takes most cycles, and what else takes many."""
    total = sum(parts.values()) or 1
    order = sorted(parts, key=lambda key: -parts[key])
    what, does = _BOUND[order[0]]
    text = f"{what}: {100 * parts[order[0]] / total:.0f} % of the cycles {does}"
    others = [
        f"{100 * parts[key] / total:.0f} % {_ALSO[key]}"
        for key in order[1:]
        if parts[key] >= _NAMED * total
    ]
    return text + (f"; {', '.join(others)}" if others else "")


def _at_best(found: Explanation) -> str:
    """Return the lower bound of what is computed and read, and how far above it the cycles are."""
    gemm = sum(layer.gemm_cycles for layer in found.layers)
    bus = sum(layer.bus_cycles for layer in found.layers)
    best, cycles = max(gemm, bus), found.shown_cycles
    what = (
        "its GEMM steps"
        if gemm >= bus
        else f"what it reads over a bus of {found.machine.bus_bits} bits"
    )
    text = f"{best:,} cycles on this machine, for {what}"
    if not best:
        return "it multiplies and reads nothing"
    if cycles < best:
        return f"{text}; layers before it load a part of that ahead"
    return f"{text}; it takes {100 * (cycles / best - 1):.1f} % more"


def _reads(found: Explanation) -> str:
    (layer,) = found.layers
    texts = [
        f"its {words} {reads.times:.1f} times"
        for key, words in _READ.items()
        if (reads := layer.reads.get(key)) is not None and reads.times >= _AGAIN
    ]
    return ", ".join(texts) and f"{', '.join(texts)}: a larger buffer may save that"


def _helps(found: Explanation) -> str:
    helping = [c for c in found.changes if c.share is not None and c.share <= -WORTH]
    if not helping:
        return f"nothing that was tried saves {100 * WORTH:.0f} % of the cycles"
    texts = [f"{change.name} ({percent(change.share)} %)" for change in helping[:_HELPING]]
    more = len(helping) - len(texts)
    return ", ".join(texts) + (f", and {more} more below" if more else "")


def percent(share: float | None) -> str:
    """Return a change as a number of percent with its sign: ``-71.7``; 0.0 has none."""
    if share is None:
        return "–"
    text = f"{100 * share:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def best_change(found: Explanation, layer: str) -> tuple[Change, float] | None:
    """Return what saves most cycles of a layer, and its share; None where nothing helps."""
    shares = [(c, c.share_of(layer)) for c in found.changes]
    known = [(c, share) for c, share in shares if share is not None]
    best = min(known, key=lambda item: item[1], default=None)
    return None if best is None or best[1] > -WORTH else best
