#!/usr/bin/env python3
"""Deploy every ONNX file of some folders and show what became of each, as a Markdown table.

A network runs in a process of its own, for at most ``--timeout`` seconds. It is calibrated and
measured on random tensors (normally distributed, or uniform in ``--range``), or on ``--images``
where it takes pictures. Exits with 1 when one ended in a traceback, or engines differ.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

#: Results, from the best to the worst.
ON_VTA, PARTLY, ON_HOST = "on VTA", "partly", "on host"
REFUSED, TIMEOUT, DIFFERS, TRACEBACK = "refused", "timeout", "ENGINES DIFFER", "TRACEBACK"
#: Left out of a network's name.
_SUFFIXES: Final = (".xz", ".onnx")
#: Characters of a sentence in the table.
_SENTENCE: Final = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one network.

    Parameters
    ----------
    network : str
        Its file's name without suffixes.
    result : str
        One of those above.
    detail : str
        The error's sentence, or the variants that were left out.
    db : mapping
        Variant -> centred SQNR in dB, None where nothing differs.
    cycles : mapping
        Variant -> latency of the operators on VTA.
    layers : int
        Layers on VTA of the variant named last that could be compiled.
    programs : int
        Its VTA programs.
    host : mapping
        Its operators on the host by reason, each with their number.
    vta_share : float, optional
        Share of its MACs on VTA.
    seconds : float
        What it took.
    """

    network: str
    result: str
    detail: str = ""
    db: dict[str, float | None] = field(default_factory=dict)
    cycles: dict[str, int] = field(default_factory=dict)
    layers: int = 0
    programs: int = 0
    host: dict[str, int] = field(default_factory=dict)
    vta_share: float | None = None
    seconds: float = 0.0


def name_of(path: Path) -> str:
    """Return a file's name without suffixes."""
    name = path.name
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name


def networks_in(places: Iterable[Path]) -> list[Path]:
    """List the ONNX files among `places`, and in the folders among them, sorted by folder."""
    found: list[Path] = []
    for place in places:
        inside = sorted(place.glob("*.onnx*")) if place.is_dir() else [place]
        found += [path for path in inside if path.name.endswith(_SUFFIXES)]
    return found


def try_one(path: Path, args: argparse.Namespace) -> Row:
    """Deploy one network in this process."""
    from flow.deploy import deploy
    from flow.input_request import InputRequest
    from flow.options import Options
    from flow.results.report import SETUP
    from flow.stages import Stages
    from vta_config.errors import FlowError

    began, name = time.perf_counter(), name_of(path)
    with tempfile.TemporaryDirectory() as folder:
        try:
            shape = _input_shape(path, args)
            pictures = _listed(args.images, Path(folder)) if _takes_pictures(shape) else None
            data = pictures or _random_inputs(shape, Path(folder), args)
            options = Options(
                model=str(path),
                images=data,
                calibration=(_listed(args.calibration, Path(folder)) if pictures else None) or data,
                config=args.config,
                limit=args.count,
                variants=tuple(args.variant),
                exact_images=args.exact_images,
                request=InputRequest(shape=_given_shape(path, args)),
            )
            report, _ = deploy(options, Stages())
        except FlowError as error:
            seconds = time.perf_counter() - began
            return Row(network=name, result=REFUSED, detail=str(error), seconds=seconds)
    seconds = time.perf_counter() - began
    facts = report.programs[-1]
    skipped = [f"{s.variant}: {s.reason}" for s in report.skipped]
    result = PARTLY if facts.placement.fallbacks else ON_VTA
    if not facts.placement.programs:
        result = ON_HOST
    if report.mismatches:
        result = DIFFERS
    elif any("internal error" in reason for reason in skipped):
        result = TRACEBACK
    return Row(
        network=name,
        result=result,
        detail="; ".join(skipped),
        db={m.name: m.centred_sqnr_db for m in report.variants if m.name != "float32"},
        cycles={p.variant: p.latency.cycles for p in report.programs if p.latency is not None},
        layers=sum(layer.kind != SETUP for layer in report.layers),
        programs=facts.placement.programs,
        host=dict(Counter(f.reason for f in facts.placement.fallbacks)),
        vta_share=facts.placement.vta_share,
        seconds=seconds,
    )


def _input_shape(path: Path, args: argparse.Namespace) -> tuple[int, ...]:
    """Return the shape of a network's input: as asked for, else as the file says it, else 1."""
    from flow.frontend.onnx_file import parse, read_bytes

    if (given := _given_shape(path, args)) is not None:
        return given
    dims = parse(read_bytes(path), path).graph.input[0].type.tensor_type.shape.dim
    return tuple(dim.dim_value if dim.dim_value > 0 else 1 for dim in dims)


def _given_shape(path: Path, args: argparse.Namespace) -> tuple[int, ...] | None:
    """Return what --input-shape says of a network."""
    shapes = dict(text.rsplit("=", 1) for text in args.input_shape)
    text = shapes.get(name_of(path))
    return None if text is None else tuple(int(n) for n in text.split(","))


def _takes_pictures(shape: Sequence[int]) -> bool:
    return len(shape) == 4 and (shape[1] in (1, 3) or shape[3] in (1, 3)) and min(shape[1:]) < 4


def _listed(pictures: Path | None, folder: Path) -> Path | None:
    """Write a list of the pictures of a folder: their labels are another network's."""
    if pictures is None:
        return None
    from flow.data.labels import images_in

    file = folder / f"{pictures.resolve().name}.txt"
    file.write_text("".join(f"{path.resolve()}\n" for path in images_in(pictures)))
    return file


def _random_inputs(shape: Sequence[int], folder: Path, args: argparse.Namespace) -> Path:
    """Write random inputs as .npy files into a folder; return it."""
    import numpy as np

    shape, rng = (1, *shape[1:]), np.random.default_rng(1)
    for index in range(args.count):
        if args.range is None:
            values = rng.normal(size=shape)
        else:
            low, high = args.range
            values = rng.uniform(low, high, size=shape)
        np.save(folder / f"{index:03}.npy", values.astype(np.float32))
    return folder


def try_in_process(path: Path, argv: Sequence[str], timeout_s: float) -> Row:
    """Deploy one network in a process of its own."""
    name, began = name_of(path), time.perf_counter()
    command = [sys.executable, str(Path(__file__).resolve()), "--one", *argv, str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return Row(network=name, result=TIMEOUT, seconds=timeout_s)
    with contextlib.suppress(ValueError, IndexError):
        return Row(**json.loads(done.stdout.splitlines()[-1]))
    lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no output"]
    return Row(
        network=name,
        result=TRACEBACK,
        detail=f"exit code {done.returncode}: {lines[-1]}",
        seconds=time.perf_counter() - began,
    )


# ---- what is shown ------------------------------------------------------------------------------
def table(rows: Sequence[Row], variants: Sequence[str]) -> str:
    """Return the rows as a Markdown table, then how many there are of each result."""
    headings = ["network", "result", *(f"{v} (dB)" for v in variants)]
    headings += [*(f"{v} (cycles)" for v in variants), "layers on VTA", "MACs on VTA (%)"]
    headings += ["programs", "operators on host, by reason", "time (s)"]
    lines = ["| " + " | ".join(headings) + " |", "|" + "---|" * len(headings)]
    lines += ["| " + " | ".join(_cells(row, variants)) + " |" for row in rows]
    counts = Counter(row.result for row in rows)
    summary = ", ".join(f"{count} {result}" for result, count in counts.most_common())
    return "\n".join([*lines, "", f"{len(rows)} networks: {summary}"])


def _cells(row: Row, variants: Sequence[str]) -> list[str]:
    host = [f"{n} × {reason}" for reason, n in row.host.items()]
    if row.detail:
        host.append(row.detail if len(row.detail) <= _SENTENCE else row.detail[:_SENTENCE] + "…")
    cells = [row.network, row.result]
    cells += [_decibels(row, variant) for variant in variants]
    cells += [f"{row.cycles[v]:,}" if v in row.cycles else "–" for v in variants]
    share = "–" if row.vta_share is None else f"{100 * row.vta_share:.1f}"
    cells += [str(row.layers), share, str(row.programs), "; ".join(host), f"{row.seconds:.0f}"]
    return [cell.replace("|", "\\|").replace("\n", " ") for cell in cells]


def _decibels(row: Row, variant: str) -> str:
    if variant not in row.db:
        return "–"
    value = row.db[variant]
    return "exact" if value is None else f"{value:.1f}"


# ---- the command line ---------------------------------------------------------------------------
def build_parser() -> argparse.ArgumentParser:
    """Describe the options."""
    from flow.options import KNOWN_VARIANTS

    parser = argparse.ArgumentParser(description=__doc__, prog="try_networks.py")
    parser.add_argument("place", nargs="+", type=Path, help="folder of ONNX files, or a file")
    parser.add_argument(
        "--variant",
        action="append",
        choices=KNOWN_VARIANTS,
        help="repeatable (default: profiled_fused and best)",
    )
    parser.add_argument("--images", type=Path, help="pictures, for networks that take them")
    parser.add_argument("--calibration", type=Path, help="pictures to calibrate on")
    parser.add_argument("--count", type=int, default=8, help="images for each network")
    parser.add_argument(
        "--range", type=float, nargs=2, metavar=("LO", "HI"), help="uniform random inputs"
    )
    parser.add_argument(
        "--input-shape",
        action="append",
        default=[],
        metavar="NETWORK=N,C,H,W",
        help="for a network whose file leaves it open; repeatable",
    )
    parser.add_argument("--config", default="default", help="machine")
    parser.add_argument("--exact-images", type=int, default=2, help="to compare engines on")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds for each network")
    parser.add_argument("--json", type=Path, help="also write the rows as JSON, after each")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Try the networks; return the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    args = build_parser().parse_args(given)
    args.variant = args.variant or ["profiled_fused", "best"]
    paths = networks_in(args.place)
    if args.one:
        print(json.dumps(asdict(try_one(paths[0], args))))
        return 0
    places = {str(place) for place in args.place}
    options = [word for word in given if word not in places]
    rows: list[Row] = []
    for path in paths:
        rows.append(try_in_process(path, options, args.timeout))
        print(f"{rows[-1].network}: {rows[-1].result}", file=sys.stderr, flush=True)
        if args.json is not None:
            values: list[dict[str, Any]] = [asdict(row) for row in rows]
            args.json.write_text(json.dumps(values, indent=2) + "\n")
    print(table(rows, args.variant))
    return int(any(row.result in (TRACEBACK, DIFFERS) for row in rows))


if __name__ == "__main__":
    sys.exit(main())
