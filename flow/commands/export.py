"""``export``: a variant as a file for other tools."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flow.commands.arguments import variant_option
from flow.commands.parsers import Commands
from flow.commands.programs import quantized
from flow.commands.terminal import Terminal, show
from flow.data.datasets import random_images
from flow.session import Session
from flow.stages import Stages
from flow.system.arguments import natural
from flow.system.files import check_writable, write_atomic
from flow.system.process import EXIT_MISMATCH
from vta_config.text import printable

#: Images on which the file is compared.
CHECKED: Final = 4


def add(commands: Commands) -> None:
    """Add ``export``."""
    parser = commands.add(
        "export",
        _export,
        "Write a variant as an ONNX model with QuantizeLinear and DequantizeLinear (QDQ), which "
        "ONNX Runtime runs to the same integers.",
        commands.model,
        commands.learning,
        commands.engine,
        commands.bits,
    )
    variant_option(parser)
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="ONNX file to write (default: out/export/MODEL.VARIANT.onnx)",
    )
    parser.add_argument(
        "--check",
        type=natural,
        default=CHECKED,
        metavar="N",
        help="calibration images, or random ones without any, on which ONNX Runtime and the engine "
        "are compared (default: %(default)s; exit code 1 if they differ)",
    )


def _export(args: argparse.Namespace) -> int:
    from flow.export.check import check_export
    from flow.export.qdq import export_qdq  # brings in TVM, which takes seconds to import

    if args.output is not None:
        check_writable(args.output.parent)
    stages = Stages(Terminal(args.verbosity))
    session, variant = quantized(args, stages, needs_images=False)
    model = session.model
    with stages("export", f"exporting {variant}"):
        proto = export_qdq(
            session.backend.integer_module(variant),
            [output.name for output in model.outputs],
            [value.name for value in model.inputs],
            name=f"{model.name} {variant}",
        )
    default = Path("out/export") / f"{model.name}.{variant}.onnx"
    path = write_atomic(args.output or default, proto.SerializeToString())
    lines = [f"written    {printable(str(path))}: {len(proto.graph.node):,} nodes"]
    code = 0
    if args.check:
        with stages("compile", f"compiling {variant}"):
            network = session.backend.compile(variant).networks()[0]
        with stages("check", "comparing with ONNX Runtime"):
            found = check_export(proto, network, _images(session, args.check))
        lines.append(f"checked    {found}")
        code = 0 if found.agrees else EXIT_MISMATCH
    show("\n".join(lines), kept=str(path))
    return code


def _images(session: Session, count: int) -> Iterator[NDArray[np.float32]]:
    """Return the first calibration images, or random ones where there are none."""
    data = session.calibration
    if data is None:
        data = random_images(session.model.input_shape, count)
    return itertools.islice(data, count)
