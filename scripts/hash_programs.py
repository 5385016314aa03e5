#!/usr/bin/env python3
"""Show that a change keeps programs byte for byte: hash the programs of variants and machines.

Run it before a change with ``--save before.json`` and after it with ``--against before.json``. Each
row is one variant on one machine, compiled for both objectives: the SHA-256 of its instructions and
constants. Ends with 1 when a row differs from the saved one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from flow.compiler.codegen import compile_function
from flow.data.datasets import image_folder
from flow.data.models import DEFAULT_MODEL, bundled_data, load_model, preprocessing_of
from flow.options import OBJECTIVES, VARIANTS
from flow.pipeline import Pipeline
from relay_passes.partition.partition import partition
from relay_passes.partition.read import annotated_functions
from vta_config import FlowError, VTAConfig

if TYPE_CHECKING:
    from collections.abc import Iterator


def program_hash(pipeline: Pipeline, variant: str) -> str:
    """Return the SHA-256 of all programs of a variant, hexadecimal; `calibrate` must have run."""
    digest = hashlib.sha256()
    for function in annotated_functions(partition(pipeline.quantize(variant), pipeline.config)):
        for objective in OBJECTIVES:
            program = compile_function(function, pipeline.config, None, objective)
            digest.update(program.insn_bytes)
            digest.update(program.constants)
    return digest.hexdigest()


def hashes(
    model_name: str, calibration: Path | None, variants: list[str], machines: list[str]
) -> Iterator[tuple[str, str]]:
    """Yield (machine and variant, hash), calibrated on the folder or the model's own images."""
    model = load_model(model_name)
    bundled = bundled_data(model)
    if calibration is not None:
        images = image_folder(calibration, preprocessing_of(model), labelled=False)
    elif bundled is not None:
        images = bundled[1]
    else:
        raise SystemExit("this model has no images of its own: give --calibration")
    for machine in machines:
        pipeline = Pipeline(model, VTAConfig.load(machine))
        pipeline.calibrate(images)
        for variant in variants:
            yield f"{machine} {variant}", program_hash(pipeline, variant)


def main(arguments: list[str] | None = None) -> int:
    """Hash, print, save and compare; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=DEFAULT_MODEL, help="model name or ONNX file")
    parser.add_argument("--calibration", type=Path, help="folder of calibration images")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--configs", nargs="+", default=["default"], metavar="CONFIG")
    parser.add_argument("--save", type=Path, metavar="JSON", help="write the hashes to this file")
    parser.add_argument("--against", type=Path, metavar="JSON", help="compare with saved hashes")
    options = parser.parse_args(arguments)
    saved = {} if options.against is None else json.loads(options.against.read_text("utf-8"))
    found: dict[str, str] = {}
    differ = 0
    try:
        for row, value in hashes(
            options.model, options.calibration, options.variants, options.configs
        ):
            found[row] = value
            if options.against is None:
                verdict = ""
            elif row not in saved:
                verdict = "  not in the saved file"
            else:
                differ += value != saved[row]
                verdict = "  equal" if value == saved[row] else "  DIFFERS"
            print(f"{row:36} {value[:16]}{verdict}", flush=True)
    except FlowError as error:
        print(f"hash_programs: {error}", file=sys.stderr)
        return 2
    if options.save is not None:
        options.save.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
