"""``sweep``: which machine is the best choice for a network."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flow.commands.arguments import add_variant_list, options_of
from flow.commands.parsers import Commands
from flow.commands.terminal import Terminal, show, show_json, to_stdout
from flow.machines.axes import AXES
from flow.options import ESTIMATED_VARIANT, KNOWN_VARIANTS, Options
from flow.stages import Stages
from flow.sweep.where import QUANTITIES
from flow.system.arguments import add_list, factor, positive
from flow.system.files import check_writable
from flow.system.threads import available_cores
from flow.worker_request import Workers
from relay_passes.variants import KEEP, MIXED, ZERO_SHOT_OF
from vta_config.hardware import VTAConfig
from vta_config.text import printable

if TYPE_CHECKING:
    from flow.sweep.run import Request

#: Variants that neither choose bits by what was measured on one machine, nor distill images.
_VARIANTS = tuple(v for v in KNOWN_VARIANTS if v != MIXED and v not in ZERO_SHOT_OF)
#: What the front may compare; `flow.sweep.rows` has the same, behind imports that take long.
_COMPARED = ("latency", "area", "energy", "accuracy", "bus", "clock")
_FORMATS = ("table", "csv", "json")


def add(commands: Commands) -> None:
    """Add ``sweep``."""
    parser = commands.add(
        "sweep",
        _sweep,
        "Measure a network on many machines and show which of them are the best choices: latency "
        "by the cycle-level simulator, accuracy where there are images, area and energy by a "
        "model. A sweep that was stopped goes on where it was.",
        commands.model,
        commands.learning,
        commands.images,
    )
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help="in place of --model, any number of models"
    )
    group = parser.add_argument_group("machines")
    group.add_argument(
        "--axis",
        action="append",
        default=[],
        metavar="NAME=VALUES",
        help="values of one choice: block=16,32 or inp-buffer=32KiB..256KiB (which doubles) or "
        "clock=100MHz..200MHz:50MHz; repeatable; config=default,ultra96 varies several machines",
    )
    group.add_argument(
        "--space",
        type=Path,
        metavar="JSON",
        help='file with axes and constraints: {"axes": {"block": [16, 32]}, "where": [...]}',
    )
    group.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="CONSTRAINT",
        help="leave out machines: 'sram <= 512KiB and block >= 16', 'latency < 30ms'; repeatable",
    )
    group.add_argument(
        "--max-machines",
        type=positive,
        metavar="N",
        help="measure at most N machines, drawn by --seed",
    )
    group.add_argument(
        "--max-minutes",
        type=factor,
        metavar="M",
        help="measure for M minutes, machines in an order drawn by --seed",
    )
    group = parser.add_argument_group("what is compared")
    group.add_argument(
        "--variant",
        action="append",
        default=[],
        choices=_VARIANTS,
        metavar="NAME",
        help=f"quantization variant, repeatable (default: {ESTIMATED_VARIANT}, or {KEEP} for a "
        "model that is quantized already)",
    )
    group.add_argument(
        "--compare",
        default=",".join(_COMPARED),
        metavar="QUANTITIES",
        help="what the Pareto front compares; bus and clock, which the model of area and energy "
        "does not price: a machine then dominates only those with as much (default: %(default)s)",
    )
    group.add_argument(
        "--model-constants",
        type=Path,
        metavar="JSON",
        help="constants of the model of area and energy that replace the package's",
    )
    group = parser.add_argument_group("work")
    group.add_argument(
        "--jobs",
        type=positive,
        metavar="N",
        help="processes on this machine (default: its cores)",
    )
    group.add_argument(
        "--cluster", metavar="ADDRESS", help="a Dask scheduler in place of processes"
    )
    parser.add_argument(
        "--format", choices=_FORMATS, default="table", help="of stdout (default: %(default)s)"
    )
    parser.add_argument(
        "--json", dest="format", action="store_const", const="json", help="same as --format json"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("out/machines"),
        help="where machines.json, .csv, .html and .svg go, and what was measured "
        "(default: %(default)s)",
    )
    add_list(parser, "axes", {a.name: a.about for a in AXES.values()})
    others = {name: q.about for name, q in QUANTITIES.items() if name not in AXES}
    add_list(parser, "quantities of constraints besides axes", others)
    add_variant_list(parser, _VARIANTS)


def request_of(args: argparse.Namespace, options: Options) -> Request:
    """Turn the arguments into a request.

    Raises
    ------
    ConfigError
        When an axis, a constraint, a machine or a file cannot be used.
    """
    from flow.session import compiling_of
    from flow.sweep.costs import read_constants, usual_constants
    from flow.sweep.run import Request, compared_of
    from flow.sweep.space import Space, SpaceFile, read_axes, read_space
    from flow.sweep.where import parse

    workers = Workers(jobs=args.jobs, cluster=args.cluster)
    file = SpaceFile() if args.space is None else read_space(args.space)
    configs, axes = read_axes((*file.axes, *args.axis))
    configs = configs or file.config or (options.config,)
    usual = usual_constants()
    constants = usual
    if args.model_constants is not None:
        constants = read_constants(args.model_constants, usual)
    words = frozenset(configs)
    return Request(
        space=Space(machines={name: VTAConfig.load(name) for name in configs}, axes=axes),
        models=tuple(dict.fromkeys(args.models)) or (options.model,),
        variants=tuple(v for v in KNOWN_VARIANTS if v in args.variant),
        where=tuple(parse(text, words) for text in (*file.where, *args.where)),
        most=args.max_machines,
        minutes=args.max_minutes,
        seed=options.seed,
        compared=compared_of(args.compare),
        constants=constants,
        how=compiling_of(options),
        jobs=None if workers.cluster is not None else workers.jobs or available_cores(),
        cluster=workers.cluster,
        fresh=not options.keep_results,
    )


def _sweep(args: argparse.Namespace) -> int:
    from flow.parallel.run import check_cluster
    from flow.sweep.costs import CONSTANTS_FILE, sources
    from flow.sweep.run import sweep
    from flow.sweep.show import csv_text, render
    from flow.sweep.write import write

    check_writable(args.output)
    options = options_of(args, None)
    request = request_of(args, options)
    check_cluster(Workers(jobs=args.jobs, cluster=args.cluster))
    found = sweep(options, request, Stages(Terminal(args.verbosity)), args.output)
    lines, told = list(found.remarks), dict(sources(CONSTANTS_FILE))
    if args.model_constants is not None:
        told |= sources(args.model_constants)
    try:
        lines += [f"written    {path}" for path in write(found, args.output, told)]
    finally:
        kept = str(args.output)
        if args.format == "json":
            show_json(found.to_json(), kept=kept)
        elif args.format == "csv":
            with to_stdout(kept):
                sys.stdout.write(csv_text(found))
        else:
            show(render(found), *map(printable, lines), kept=kept)
    return 0
