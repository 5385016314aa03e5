"""``run`` and ``verify`` of artefacts, ``time``, ``trace`` and ``disasm``: without the model."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType

from flow.commands.answers import Answers, answers_of, class_names
from flow.commands.arguments import json_option
from flow.commands.explain import explain_option
from flow.commands.parsers import Commands
from flow.commands.terminal import Terminal, show, show_json, to_stdout
from flow.data.datasets import Dataset, image_files, image_folder, random_images
from flow.data.labels import images_in
from flow.options import EXACT_IMAGES, Options
from flow.results.latency import latency_of
from flow.results.timing_table import timing_parts
from flow.session import check_driver
from flow.stages import Stages
from flow.system.files import check_writable, write_atomic
from flow.system.json_values import json_value
from flow.system.limits import add_options as add_limit_options
from flow.system.limits import of_options
from flow.system.process import EXIT_MISMATCH
from vta_config.errors import CalibrationError, ConfigError
from vta_config.text import printable, shown_name
from vta_config.timing import PROFILES

if TYPE_CHECKING:
    from flow.artefacts.load import Artefact
    from flow.artefacts.networks import EngineChoice
    from flow.program.program import Program
    from vta_config.hardware import VTAConfig

#: Random tensors that engines are compared on, where no images are given.
RANDOM_RUNS: Final = 4
_ARTEFACT_HELP: Final = "folder that deploy or compile wrote, or a program file (.vta)"


def add(commands: Commands) -> None:
    """Add ``time``, ``trace`` and ``disasm``."""
    time = commands.add(
        "time",
        _time,
        "Show how long the programs of an artefact take on the machine, layer by layer: cycles of "
        "the cycle-level simulator, and what bounds them. No model and no images are needed.",
    )
    _program_options(time)
    explain_option(time, tried="here only a wider bus, since the instructions stay as they are")
    json_option(time, "the latency, or the explanation,")
    trace = commands.add(
        "trace",
        _trace,
        "Write what each module of the machine does when, as a trace that ui.perfetto.dev shows.",
    )
    _program_options(trace)
    trace.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        default=Path("trace.json"),
        help="output file; of several programs one file each, FILE.PROGRAM.json (default: "
        "%(default)s)",
    )
    disasm = commands.add(
        "disasm", _disasm, "Disassemble a program file; the text can be assembled again."
    )
    disasm.add_argument("artefact", type=Path, metavar="ARTEFACT", help=_ARTEFACT_HELP)
    disasm.add_argument("--output", type=Path, metavar="FILE", help="output file (default: stdout)")
    add_limit_options(disasm, steps=False)


def _program_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("artefact", type=Path, metavar="ARTEFACT", help=_ARTEFACT_HELP)
    parser.add_argument(
        "--profile", choices=tuple(PROFILES), help="generation of hardware (default: the machine's)"
    )
    add_limit_options(parser)


def artefact_options(parser: argparse.ArgumentParser, commands: Commands) -> None:
    """Add what `run_artefact` and `verify_artefact` need to a command that also takes a model."""
    add_limit_options(parser, about="of the programs of an artefact")
    own = (commands.model, commands.learning, commands.bits)
    actions = [action for parent in own for action in parent._actions if action.option_strings]
    choices = [action for action in parser._actions if action.dest == "variant"]
    parser.set_defaults(
        of_model=[(a.option_strings[-1], a.dest, a.default) for a in (*actions, *choices)]
    )


def _open(args: argparse.Namespace, path: Path) -> tuple[Artefact, EngineChoice]:
    """Open an artefact, and say what runs it.

    Raises
    ------
    ConfigError
        When an option is given that only a model has.
    """
    from flow.artefacts.load import open_artefact
    from flow.artefacts.networks import EngineChoice

    for option, dest, default in args.of_model:
        if getattr(args, dest) != default:
            raise ConfigError(
                option,
                "must not be given with an artefact, which is quantized and compiled",
                got=str(getattr(args, dest)),
                hint="leave it out",
            )
    options = Options(engine=args.engine, driver=args.driver, driver_timeout_s=args.driver_timeout)
    if options.driver is not None:
        check_driver(options.driver, options.driver_timeout_s)
    engine = EngineChoice(
        name=options.engine, driver=options.driver, driver_timeout_s=options.driver_timeout_s
    )
    return open_artefact(path, limits=of_options(args)), engine


# ---- run ----------------------------------------------------------------------------------------
def run_artefact(args: argparse.Namespace) -> int:
    """Run images, or raw tensors, on an artefact."""
    path, images = args.image[0], args.image[1:]
    if args.save is not None:
        check_writable(args.save, hint="choose another --save")
    names = class_names(args.names)
    artefact, engine = _open(args, path)
    if not images:
        raise ConfigError(
            str(path),
            "must be followed by images",
            got="none",
            hint="for example: vta-flow run out/deploy/artefact image.png",
        )
    if artefact.manifest is None:
        found = _run_program(artefact, engine, images, args.save)
        if args.json:
            show_json(found.to_json())
        else:
            show(found.ranges())
        return 0
    from flow.artefacts.networks import open_network

    manifest = artefact.manifest
    data = image_files(images, manifest.preprocessing, **_shapes(artefact))
    network = open_network(artefact, engine)
    answers = answers_of(data, network, manifest.network_outputs, args.save)
    if args.json:
        show_json(answers.to_json(manifest.network_outputs, names, args.top))
    else:
        show(answers.table(manifest.network_outputs, names, args.top))
    return 0


def _shapes(artefact: Artefact) -> dict[str, Any]:
    """Return the inputs of a folder as data sets want them."""
    from relay_passes.host.rows import array_shape

    assert artefact.manifest is not None
    inputs = artefact.manifest.network_inputs
    return {
        "shape": array_shape([given.shape for given in inputs]),
        "file_shape": array_shape([given.file_shape for given in inputs]),
        "inputs": inputs,
    }


def _run_program(
    artefact: Artefact, engine: EngineChoice, paths: Sequence[Path], folder: Path | None
) -> Answers:
    """Run a program alone on raw tensors."""
    from flow.artefacts.networks import ProgramRunner

    (program,) = artefact.programs
    runs = raw_runs(program, paths)
    runner = ProgramRunner(program, engine, artefact.limits)
    answers = Answers(
        images=tuple(printable(str(group[0])) for group in _groups(program, paths)),
        outputs=tuple(port.name for port in program.outputs),
        values=tuple(tuple(runner(inputs)) for inputs in runs),
    )
    if folder is not None:
        answers.save(folder)
    return answers


def _groups(program: Program, paths: Sequence[Path]) -> list[Sequence[Path]]:
    """Return the files of each run: one for each input of the program.

    Raises
    ------
    CalibrationError
        When they are not a multiple of the inputs.
    """
    count = len(program.inputs)
    if not paths or not count or len(paths) % count:
        names = ", ".join(shown_name(port.name) for port in program.inputs)
        raise CalibrationError(
            program.symbol,
            f"must be given a .npy file for each of its {count} inputs: {names}",
            got=f"{len(paths)} files",
            hint="give them in this order, run after run",
        )
    return [paths[at : at + count] for at in range(0, len(paths), count)]


def raw_runs(program: Program, paths: Sequence[Path]) -> Iterator[list[NDArray[np.int8]]]:
    """Yield the inputs of each run of a program, read from ``.npy`` files.

    Raises
    ------
    CalibrationError
        When a file is no int8 array of its input's shape, or one is missing.
    """
    groups = _groups(program, paths)
    return (
        [_raw(path, port) for path, port in zip(group, program.inputs, strict=True)]
        for group in groups
    )


def _raw(path: Path, port: Any) -> NDArray[np.int8]:
    """Read the numbers of an input."""
    try:
        array = np.load(path, allow_pickle=False)
        shape, dtype = array.shape, str(array.dtype)
    except Exception as error:  # damaged files leave numpy by exceptions of many kinds
        raise CalibrationError(
            str(path),
            f"must be a .npy file of int8{list(port.shape)}, the input {shown_name(port.name)}",
            got=getattr(error, "strerror", None) or error,
            hint="a .vta file knows no pictures; give the folder of the artefact for these",
        ) from None
    wanted = (tuple(port.shape), *([tuple(port.shape[1:])] if port.shape[0] == 1 else []))
    flat = np.size(array) == np.prod(port.shape) and len(shape) <= 2  # of a dense layer
    if dtype != "int8" or not (shape in wanted or (flat and port.shape[2:] == (1, 1))):
        raise CalibrationError(
            str(path),
            f"must hold int8{list(port.shape)}, the input {shown_name(port.name)}",
            got=f"{dtype}{list(shape)}",
            hint="quantize it; the folder of the artefact knows the scale, a .vta file does not",
        )
    numbers: NDArray[np.int8] = np.asarray(array, np.int8).reshape(port.shape)
    return numbers


# ---- verify -------------------------------------------------------------------------------------
def verify_artefact(args: argparse.Namespace) -> int:
    """Compare the engines on an artefact."""
    from flow.artefacts.compare import compare_network, compare_programs
    from flow.artefacts.timing import no_program

    artefact, engine = _open(args, args.artefact)
    if not artefact.programs:
        raise no_program(args.artefact)
    stages = Stages(Terminal(args.verbosity))
    if artefact.manifest is None:
        (program,) = artefact.programs
        runs = _raw_inputs(program, args)
        with stages("verify", "comparing engines") as progress:
            found = compare_programs(artefact, runs, len(runs), progress, engine)
        told, which = "run", "random int8 inputs" if args.images is None else ""
    else:
        data = _images(artefact, args)
        with stages("verify", "comparing engines") as progress:
            found = compare_network(artefact, data, len(data), progress, engine)
        told, which = "image", "random tensors" if args.images is None else ""
    if args.json:
        show_json(json_value(found), kept="the exit code")
        return EXIT_MISMATCH if found.mismatches else 0
    text = f"{found.tensors:,} tensors of {found.runs:,} {told}{'s' * (found.runs != 1)}"
    text += f" ({which})" if which else ""
    lines = [f"engines    {', '.join(found.engines)}"]
    if "oracle" not in found.engines:
        lines[0] += " (the oracle would take long; raise --max-steps)"
    if found.mismatches:
        show(f"{found.mismatches:,} of {text} differ; first: {found.first}", *lines)
        return EXIT_MISMATCH
    show(f"{text} compared, all equal", *lines, kept="the exit code")
    return 0


def _images(artefact: Artefact, args: argparse.Namespace) -> Dataset:
    """Return the images of a folder of images, else random tensors."""
    assert artefact.manifest is not None
    shapes = _shapes(artefact)
    if args.images is None:
        return random_images(shapes["shape"], args.limit or RANDOM_RUNS)
    pictures = artefact.manifest.preprocessing
    data = image_folder(args.images, pictures, labelled=False, **shapes)
    return data.take(args.limit or EXACT_IMAGES, seed=args.seed)


def _raw_inputs(program: Program, args: argparse.Namespace) -> list[list[NDArray[np.int8]]]:
    """Return the inputs of each run of a program alone: of files in a folder, or random."""
    if args.images is not None:
        files = [path for path in images_in(args.images) if path.suffix.lower() == ".npy"]
        return list(raw_runs(program, files))[: args.limit or EXACT_IMAGES]
    rng = np.random.default_rng(args.seed)
    return [
        [_random(port, program.config, rng) for port in program.inputs]
        for _ in range(args.limit or RANDOM_RUNS)
    ]


def _random(port: Any, config: VTAConfig, rng: np.random.Generator) -> NDArray[np.int8]:
    """Return numbers that the planes of an input hold: digits of 4 bits, or int8."""
    ones = sum(16**place for place in range(port.planes))
    low, high = (-8 * ones, 7 * ones) if config.inp_bits == 4 else (-128, 127)
    numbers: NDArray[np.int8] = rng.integers(
        max(low, -128), min(high, 127), port.shape, np.int8, endpoint=True
    )
    return numbers


# ---- programs -----------------------------------------------------------------------------------
def _timed(args: argparse.Namespace) -> list[Any]:
    from flow.artefacts.load import open_artefact
    from flow.artefacts.timing import timed_programs

    return timed_programs(open_artefact(args.artefact, limits=of_options(args)), args.profile)


def _time(args: argparse.Namespace) -> int:
    timed = _timed(args)
    if args.explain is not None:
        return _explain(args, timed)
    latency = latency_of(timed)
    assert latency is not None
    if args.json:
        show_json(latency.to_json())
        return 0
    parts: list[RenderableType] = []
    for sim in timed:
        parts += [f"program {sim.program.symbol}"] if len(timed) > 1 else []
        parts += timing_parts(sim.result)
    if len(timed) > 1:
        parts.append(f"all programs: {latency.cycles:,} cycles, {latency.ms:.2f} ms")
    show(*parts, whole=True)
    return 0


def _explain(args: argparse.Namespace, timed: list[Any]) -> int:
    from flow.explain.explain import explain_programs
    from flow.explain.render import render

    found = explain_programs(timed, args.artefact.name, args.explain)
    if args.json:
        show_json(found.to_json())
    else:
        show(render(found))
    return 0


def _trace(args: argparse.Namespace) -> int:
    from flow.artefacts.timing import write_traces

    check_writable(args.output.parent)
    paths = write_traces(_timed(args), args.output)
    show("\n".join(printable(str(path)) for path in paths), kept=str(args.output))
    return 0


def _disasm(args: argparse.Namespace) -> int:
    from flow.artefacts.load import open_artefact
    from flow.artefacts.timing import no_program
    from flow.program.asm import disassemble

    artefact = open_artefact(args.artefact, limits=of_options(args))
    if len(artefact.programs) > 1:
        names = ", ".join(f"{program.symbol}.vta" for program in artefact.programs)
        raise ConfigError(
            str(args.artefact),
            "must have one program",
            got=f"{len(artefact.programs)}: {names}",
            hint="give one of the files",
        )
    if not artefact.programs:
        raise no_program(args.artefact)
    (program,) = artefact.programs
    text = disassemble(program.insns, program.config)
    if args.output is not None:
        write_atomic(args.output, text.encode(errors="backslashreplace"))
    else:
        with to_stdout():
            sys.stdout.write(text)
    return 0
