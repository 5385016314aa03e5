"""Options that several commands have, and what becomes of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from flow.bit_request import (
    SENSITIVITIES,
    BitRequest,
    Bound,
    Cost,
    parse_bits,
    parse_fixed,
)
from flow.data.models import BUNDLED, DEFAULT_MODEL, MIRRORS, model_names
from flow.input_request import CROPS, KEYS, LAYOUTS, parse_request
from flow.learn_request import EFFORT_NAMES, USUAL_EFFORT, LearnRequest
from flow.options import (
    BEST_VARIANT,
    ENGINES,
    KNOWN_VARIANTS,
    MAIN_VARIANTS,
    OBJECTIVES,
    QDQ_WAYS,
    VARIANTS,
    ZERO_SHOT,
    Options,
)
from flow.system.arguments import add_list, factor, natural, positive, seconds
from flow.worker_request import Workers
from relay_passes.calibration.distill_options import DistillOptions
from relay_passes.variants import KEPT, TABLE
from vta_config.hardware import preset_names

#: Title of the group of options that say which model, and how it is compiled.
_MODEL: Final = "model and machine"


def output_options() -> argparse.ArgumentParser:
    """Return those of how much a command tells while it runs."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("output").add_mutually_exclusive_group()
    group.add_argument(
        "-q",
        "--quiet",
        dest="verbosity",
        action="store_const",
        const=-1,
        default=0,
        help="show no progress",
    )
    group.add_argument(
        "-v",
        "--verbose",
        dest="verbosity",
        action="store_const",
        const=1,
        help="show the time of every stage",
    )
    return parser


def json_option(parser: argparse.ArgumentParser, what: str = "the report") -> None:
    """Add the option for JSON in place of tables."""
    parser.add_argument(
        "--json", action="store_true", help=f"write {what} to stdout as JSON instead of tables"
    )


def source_options() -> argparse.ArgumentParser:
    """Return the options of the model alone."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group(_MODEL)
    group.add_argument(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME|FILE",
        help=f"ONNX file (.onnx, .onnx.xz) or one of {', '.join(model_names())} "
        f"(default: %(default)s; {' and '.join(BUNDLED)} are part of the package, the others are "
        "downloaded once)",
    )
    group.add_argument("--mirror", metavar="URL", help="base URL for downloading named models")
    group.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder for downloads, schedules, distilled images, learned weights and results that "
        "take long to compute (default: the user's cache folder)",
    )
    group.add_argument(
        "--no-cache",
        action="store_true",
        help="compute everything anew, and keep nothing but downloads",
    )
    group.add_argument(
        "--input-shape",
        action="append",
        metavar="[NAME=]N,C,H,W",
        help="shape of the model's input, where its file leaves it open: 1,3,224,224; of several "
        "inputs repeatable, with the input's name",
    )
    group.add_argument(
        "--layout",
        choices=LAYOUTS,
        help="order of dimensions of the model's input, if it is an image (default: NHWC if the "
        "model itself transposes it to NCHW, otherwise NCHW)",
    )
    group.add_argument(
        "--skip-import-check",
        action="store_true",
        help="do not compare the imported float graph with ONNX Runtime first",
    )
    group.add_argument(
        "--model-limit",
        type=factor,
        default=1.0,
        metavar="FACTOR",
        help="multiply the limits for the model: file size, tensor size, multiplications "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--qdq",
        nargs="?",  # alone, as in "export --qdq", it says no more than the default
        const=QDQ_WAYS[0],
        choices=QDQ_WAYS,
        default=QDQ_WAYS[0],
        help="of a model that is quantized already (QuantizeLinear, DequantizeLinear): keep its "
        f"integers (variants {' and '.join(KEPT)}), or quantize its real values again "
        "(default: %(default)s)",
    )
    return parser


def picture_options() -> argparse.ArgumentParser:
    """Return those of how pictures become the model's input."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group(
        "pictures",
        "input = (pixel · scale - mean) / std, for pixels from 0 to 255. By default as for "
        "ImageNet; if one of the three is given, the others are 1/255, 0 and 1. All of these, "
        "--input-shape and --layout can also be kept in a file beside the model: net.input.json "
        "for net.onnx.",
    )
    group.add_argument("--mean", metavar="M[,M,M]", help="mean, for all channels or for each")
    group.add_argument("--std", metavar="S[,S,S]", help="standard deviation, likewise")
    group.add_argument("--scale", metavar="X", help="factor of pixels: 1 for 0 to 255")
    group.add_argument(
        "--resize",
        metavar="N|HxW",
        help="before the crop: length of the short side, or height and width (default: 256/224 of "
        "the input's longer side)",
    )
    group.add_argument(
        "--crop",
        choices=CROPS,
        help="center: crop the centre; none: resize the whole picture to the input's size "
        "(default: center)",
    )
    return parser


def machine_options() -> argparse.ArgumentParser:
    """Return the options of the model and the machine."""
    parser = argparse.ArgumentParser(add_help=False, parents=[source_options()])
    group = parser.add_argument_group(_MODEL)  # commands merge groups of one title
    group.add_argument(
        "--config",
        default="default",
        metavar="PRESET|JSON",
        help=f"machine: {', '.join(preset_names())}, or a vta_config.json (default: %(default)s)",
    )
    group.add_argument(
        "--search",
        action="store_true",
        help="choose schedules with the cycle-level simulator (slow the first time, then cached)",
    )
    group.add_argument(
        "--objective",
        choices=OBJECTIVES,
        default=OBJECTIVES[0],
        help="choose the input layout (plain, space-to-depth, im2col) by cycles and DRAM traffic, "
        "or by cycles alone (default: %(default)s)",
    )
    return parser


def model_options() -> argparse.ArgumentParser:
    """Return the options of the model, its calibration and the machine."""
    parents = [machine_options(), picture_options()]
    parser = argparse.ArgumentParser(add_help=False, parents=parents)
    group = parser.add_argument_group(_MODEL)  # commands merge groups of one title
    group.add_argument(
        "--calibration",
        metavar=f"DIR|{ZERO_SHOT}",
        help="folder of images for calibration: pictures, or float tensors (.npy, .npz) in the "
        f"model's input space; or {ZERO_SHOT}: distill images from the model's BatchNorm "
        "statistics (needs torch)",
    )
    return parser


def image_options() -> argparse.ArgumentParser:
    """Return those of images to evaluate."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("images")
    group.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of images to evaluate, with labels.csv (filename,label_index) or one "
        "subfolder per class; for digits-resnet18 also digits-harder: its own digits, turned "
        "and shifted (default for bundled models: their own)",
    )
    group.add_argument("--limit", type=positive, metavar="N", help="evaluate at most N images")
    group.add_argument("--seed", type=natural, default=0, help="seed for the choice of --limit")
    return parser


def worker_options() -> argparse.ArgumentParser:
    """Return those of who works."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("workers").add_mutually_exclusive_group()
    group.add_argument(
        "--jobs",
        type=positive,
        metavar="N",
        help="number of cores of this machine that run images and --search (default: 1)",
    )
    group.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="run them on the workers of a Dask cluster, such as tcp://host:8786 (needs "
        "vta-flow[dask]); files of images must have the same paths there",
    )
    return parser


def engine_options() -> argparse.ArgumentParser:
    """Return those of what runs the programs."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine",
        choices=ENGINES,
        default="fsim",
        help="engine that runs the programs: functional simulator, cycle-level simulator, numpy "
        "oracle (slow), or driver library (default: %(default)s)",
    )
    group.add_argument(
        "--driver",
        type=Path,
        metavar="LIB",
        help="shared library with the original VTA driver functions, for --engine driver; it runs "
        "in a separate process",
    )
    group.add_argument(
        "--driver-timeout",
        type=seconds,
        metavar="SECONDS",
        help="stop if one call of the driver takes longer (default: no limit)",
    )
    return parser


def bit_options() -> argparse.ArgumentParser:
    """Return those of the variant `mixed`."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group(
        "bits of the variant mixed",
        "A limit is a share of the range between the narrowest and the widest bits, or a number "
        "with a unit. Without any: half the range of latency on a machine with 4-bit operands, of "
        "size on others.",
    )
    group.add_argument("--max-latency", metavar="LIMIT", help="of one image: 0.5, 15ms, 8.1Mcycles")
    group.add_argument("--max-size", metavar="LIMIT", help="of the weights: 0.5, 6MB, 500KiB")
    group.add_argument(
        "--max-bops",
        metavar="LIMIT",
        help="bits of weights × bits of activations × multiply-accumulates: 0.5, 3e10, 30G",
    )
    group.add_argument(
        "--fix-bits",
        action="append",
        default=[],
        metavar="LAYER=W,A",
        help="bits of a layer's weights and activations; repeatable (default: 8,8 of the first "
        "and the last layer)",
    )
    group.add_argument(
        "--choose-from",
        action="append",
        default=[],
        metavar="W,A",
        help="bits that the other layers may have; repeatable (default: 8,8 and 4,8, on a machine "
        "with 4-bit activations also 8,4 and 4,4)",
    )
    group.add_argument(
        "--sensitivity",
        choices=SENSITIVITIES,
        default=SENSITIVITIES[0],
        help="what fewer bits harm: measured on calibration images, or HAWQ's by the Hessian, "
        "which needs torch (default: %(default)s)",
    )
    return parser


def learning_options() -> argparse.ArgumentParser:
    """Return those of calibration without data, and of variants that learn their weights."""
    parser, usual = argparse.ArgumentParser(add_help=False), DistillOptions()
    group = parser.add_argument_group(
        "calibration without data",
        f"For --calibration {ZERO_SHOT} and variants whose name ends so; the images are kept in "
        "the cache. vta-flow distill has more options.",
    )
    group.add_argument(
        "--distill-images",
        type=positive,
        default=usual.images,
        metavar="N",
        help="images to distill (default: %(default)s)",
    )
    group.add_argument(
        "--distill-steps",
        type=positive,
        default=usual.steps,
        metavar="N",
        help="steps of the optimizer for each batch (default: %(default)s)",
    )
    learning = parser.add_argument_group(
        "learning", "Of variants whose weights are learned block by block; they need torch."
    )
    learning.add_argument(
        "--learn",
        choices=EFFORT_NAMES,
        default=USUAL_EFFORT,
        help="number of images and steps (default: %(default)s)",
    )
    learning.add_argument(
        "--device",
        default=LearnRequest().device,
        help="where PyTorch computes, for this and for distilling: cpu, cuda, cuda:1 "
        "(default: %(default)s)",
    )
    return parser


def workers_of(args: argparse.Namespace) -> Workers:
    """Turn the arguments of `worker_options` into workers."""
    return Workers(jobs=getattr(args, "jobs", None), cluster=getattr(args, "cluster", None))


def bit_request(args: argparse.Namespace) -> BitRequest:
    """Turn the arguments of `bit_options` into a request."""
    limits: tuple[tuple[Cost, str | None], ...] = (
        ("latency", args.max_latency),
        ("size", args.max_size),
        ("bops", args.max_bops),
    )
    return BitRequest(
        limits=tuple(Bound.parse(cost, text) for cost, text in limits if text is not None),
        fixed=parse_fixed(args.fix_bits),
        widths=tuple(dict.fromkeys(parse_bits("--choose-from", b) for b in args.choose_from)),
        sensitivity=args.sensitivity,
    )


def variant_option(
    parser: argparse.ArgumentParser, choices: Sequence[str] = KNOWN_VARIANTS
) -> None:
    """Add the option for one variant."""
    parser.add_argument(
        "--variant",
        choices=choices,
        metavar="NAME",
        help=f"quantization variant, of those listed below (default: {BEST_VARIANT}; {KEPT[0]} for "
        "a model that is quantized already)",
    )
    add_variant_list(parser, choices)


def variants_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for any number of variants."""
    parser.add_argument(
        "--variant",
        action="append",
        choices=KNOWN_VARIANTS,
        metavar="NAME",
        help="variant to measure, of those listed below; repeatable (default: "
        f"{', '.join(VARIANTS)} for a bundled model, {KEPT[0]} for a model that is quantized "
        f"already, {', '.join(MAIN_VARIANTS)} for others)",
    )
    add_variant_list(parser, KNOWN_VARIANTS)


def add_variant_list(parser: argparse.ArgumentParser, names: Sequence[str]) -> None:
    """Say a few words about each variant at the end of a command's help."""
    add_list(parser, "variants", {v.name: v.about for v in TABLE if v.name in names})


def chosen_by(args: argparse.Namespace) -> tuple[str, ...] | None:
    """Return the variants named, in the order of the report; None for the default."""
    return tuple(v for v in KNOWN_VARIANTS if v in args.variant) if args.variant else None


def one_variant(args: argparse.Namespace) -> Options:
    """Turn the arguments of a subcommand with `variant_option` into options."""
    return options_of(args, None if args.variant is None else (args.variant,), one=True)


def options_of(
    args: argparse.Namespace,
    variants: tuple[str, ...] | None,
    exact: int = 0,
    *,
    one: bool = False,
) -> Options:
    """Turn parsed arguments into options; a subcommand may lack some."""
    usual, calibration = Options(), getattr(args, "calibration", None)
    return Options(
        model=args.model,
        images=None if args.command == "distill" else getattr(args, "images", None),
        calibration=None if calibration in (None, ZERO_SHOT) else Path(calibration),
        zero_shot=calibration == ZERO_SHOT,
        distill=DistillOptions(
            images=args.distill_images, steps=args.distill_steps, device=args.device
        )
        if hasattr(args, "distill_images")
        else usual.distill,
        learn=LearnRequest(effort=args.learn, device=args.device)
        if hasattr(args, "learn")
        else usual.learn,
        config=getattr(args, "config", usual.config),
        engine=getattr(args, "engine", "fsim"),
        driver=getattr(args, "driver", None),
        driver_timeout_s=getattr(args, "driver_timeout", None),
        limit=getattr(args, "limit", None),
        seed=getattr(args, "seed", 0),
        variants=variants,
        one_variant=one,
        qdq=args.qdq,
        exact_images=exact,
        mirrors=MIRRORS if args.mirror is None else (args.mirror,),
        cache=args.cache,
        keep_results=not args.no_cache,
        search=getattr(args, "search", usual.search),
        objective=getattr(args, "objective", usual.objective),
        check_import=not args.skip_import_check,
        model_limit=args.model_limit,
        bits=bit_request(args) if hasattr(args, "fix_bits") else BitRequest(),
        request=parse_request({key: getattr(args, key, None) for key in KEYS}),
        workers=workers_of(args),
    )
