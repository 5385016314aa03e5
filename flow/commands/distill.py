"""``distill``: calibration images from a model's BatchNorm statistics."""

from __future__ import annotations

import argparse
from pathlib import Path

from flow.commands.arguments import options_of
from flow.commands.parsers import Commands
from flow.commands.terminal import Terminal, show
from flow.data.distilled import image_name
from flow.results.latency import can_plot
from flow.session import open_model
from flow.stages import Stages
from flow.system.arguments import natural, positive
from flow.system.files import check_writable
from relay_passes.calibration.distill_options import DistillOptions
from vta_config.text import printable


def add(commands: Commands) -> None:
    """Add ``distill``."""
    usual = DistillOptions()
    parser = commands.add(
        "distill",
        _distill,
        "Make calibration images from a model's BatchNorm statistics alone, without any data. They "
        "are float tensors in the model's input space; give the folder as --calibration DIR. "
        "A run that was stopped continues after the last complete batch. Needs torch.",
        commands.source,
    )
    parser.add_argument(
        "--images",
        type=positive,
        default=usual.images,
        metavar="N",
        help="number of images (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("out/distilled"),
        help="folder for the images, a contact sheet and the losses (default: %(default)s)",
    )
    parser.add_argument(
        "--steps",
        type=positive,
        default=usual.steps,
        metavar="N",
        help="steps of the optimizer for each batch (default: %(default)s)",
    )
    parser.add_argument(
        "--batch",
        type=positive,
        default=usual.batch,
        metavar="N",
        help="images that are optimized together (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=natural, default=usual.seed, help="random seed (default: %(default)s)"
    )
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        default=usual.device,
        help="where PyTorch computes: cpu, cuda, cuda:1 (default: %(default)s)",
    )
    parts = parser.add_argument_group(
        "parts of the method", "All are used by default; leaving one out shows what it is worth."
    )
    parts.add_argument(
        "--no-generator", action="store_true", help="optimize the pixels, without a generator"
    )
    parts.add_argument(
        "--no-latents",
        action="store_true",
        help="train the generator alone; latents are drawn anew in every step",
    )
    parts.add_argument(
        "--no-swing", action="store_true", help="use strided convolutions as they are"
    )


def _options(args: argparse.Namespace) -> DistillOptions:
    return DistillOptions(
        images=args.images,
        batch=args.batch,
        steps=args.steps,
        seed=args.seed,
        device=args.device,
        generator=not args.no_generator,
        latents=not args.no_latents,
        swing=not args.no_swing,
    )


def _distill(args: argparse.Namespace) -> int:
    from flow.distill import distill_into, draw  # brings in TVM, which takes seconds to import

    check_writable(args.output)
    stages = Stages(Terminal(args.verbosity))
    model = open_model(options_of(args, None), stages)
    options = _options(args)
    shape = "×".join(map(str, model.input_shape[1:]))
    show(
        f"model      {printable(model.name)}  (sha256 {model.sha256[:12]}…), input {shape}",
        f"images     {options.images:,} in batches of {options.batch:,}, {options.steps:,} steps "
        f"each; seed {options.seed}, on {options.device}",
        kept=str(args.output),
    )
    found = distill_into(
        args.output,
        model,
        options,
        stages,
        told=lambda line: show(f"           {line}", kept=str(args.output)),
    )
    last = found.record.images - 1
    lines = [
        f"written    {args.output}: {image_name(0)} to {image_name(last)}, float32[{shape}] each",
    ]
    try:
        lines += [f"           {path}" for path in draw(found)]
        if not can_plot():
            lines.append("           no plot: matplotlib is missing; install vta-flow[plot]")
        lines.append(f"time (s)   {sum(stages.seconds.values()):.1f}")
        lines.append(f"next       vta-flow deploy --model {args.model} --calibration {args.output}")
    finally:
        show(*map(printable, lines), kept=str(args.output), whole=True)
    return 0
