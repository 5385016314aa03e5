#!/usr/bin/env python3
"""Compare the accuracy of variants with that of ONNX Runtime's static int8 quantization.

ONNX Runtime quantizes the same float32 model with its defaults (``quantize_static``: QDQ, int8
activations and weights, largest and smallest values) from the same calibration images, once with a
scale per tensor and once per channel. All are compared with float32 on the evaluation images.
Prints a Markdown table with a row for each output of the network.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this checkout, installed or not

from flow.deploy import deploy
from flow.input_request import InputRequest
from flow.options import VARIANTS, Options
from flow.results.evaluate import Metrics, OnnxRuntime, measure, run_all
from flow.session import float_logits, open_session
from flow.stages import Stages
from flow.system.process import EXIT_BAD_INPUT
from vta_config.errors import FlowError

#: The calls of ONNX Runtime's quantization, by the name in the table.
ORT: Final = {"ONNX Runtime, per tensor": False, "ONNX Runtime, per channel": True}
#: Since then a QDQ model may have a scale for each channel.
_OPSET: Final = 13


def quantized_by_ort(
    proto: Any, images: Iterable[Any], *, per_channel: bool, unsigned: bool = False
) -> Any:
    """Return the QDQ model that ONNX Runtime makes of a float32 model of one input.

    Parameters
    ----------
    proto : onnx.ModelProto
    images : iterable of float32[...]
        Calibration inputs.
    per_channel : bool
        Whether each channel of a weight has a scale of its own.
    unsigned : bool
        Whether activations are uint8 instead of int8: ONNX Runtime is faster with them.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static
    from onnxruntime.quantization.calibrate import CalibrationDataReader
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._images = iter(images)

        def get_next(self) -> Any:
            image = next(self._images, None)
            return None if image is None else {name: image}

    known = {initializer.name for initializer in proto.graph.initializer}
    (name,) = (value.name for value in proto.graph.input if value.name not in known)
    if max((o.version for o in proto.opset_import if not o.domain), default=1) < _OPSET:
        proto = onnx.version_converter.convert_version(proto, _OPSET)
    with tempfile.TemporaryDirectory() as folder:
        before, ready, after = (str(Path(folder) / f"{n}.onnx") for n in ("a", "b", "c"))
        onnx.save(proto, before)
        quant_pre_process(before, ready, skip_symbolic_shape=True)
        quantize_static(
            ready,
            after,
            Reader(),
            per_channel=per_channel,
            activation_type=QuantType.QUInt8 if unsigned else QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(after)


def compare(options: Options) -> list[Metrics]:
    """Return how near ONNX Runtime's two models and the variants are to float32.

    Raises
    ------
    FlowError
        When the model or the images cannot be used.
    """
    stages = Stages()
    session = open_session(options, stages)
    model, data, calibration = session.model, session.evaluation, session.calibration
    assert data is not None and calibration is not None
    reference = float_logits(session, stages)
    found = []
    for name, per_channel in ORT.items():
        proto = quantized_by_ort(model.proto, calibration, per_channel=per_channel)
        values = run_all(OnnxRuntime(proto), data, values=model.values)
        found.append(measure(name, values, reference, data.targets, model.outputs))
    report, _ = deploy(options, stages)
    return found + [row for row in report.variants if row.name != "float32"]


def table(rows: Sequence[Metrics]) -> str:
    """Return the Markdown table."""
    lines = [
        "| quantization | output | SQNR (dB) | centred SQNR (dB) | agreement (%) |",
        "|---|---|---:|---:|---:|",
    ]
    for row in rows:
        share = "–" if row.agreement is None else f"{100 * row.agreement:.1f}"
        for part in row.outputs or (row,):
            output = part.name if row.outputs else "logits"
            numbers = (part.sqnr_db, part.centred_sqnr_db)
            decibels = " | ".join("exact" if db is None else f"{db:.1f}" for db in numbers)
            lines.append(f"| {row.name} | {output} | {decibels} | {share} |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare one network; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="ONNX file")
    parser.add_argument("--images", required=True, help="folder for evaluation")
    parser.add_argument("--calibration", required=True, help="folder for calibration")
    parser.add_argument("--count", type=int, default=100, help="images for evaluation")
    parser.add_argument("--input-shape", help="N,C,H,W, where the file leaves it open")
    parser.add_argument(
        "--variant", action="append", choices=VARIANTS, help="repeatable (default: best)"
    )
    args = parser.parse_args(argv)
    shape = args.input_shape and tuple(int(n) for n in args.input_shape.split(","))
    options = Options(
        model=args.model,
        images=Path(args.images),
        calibration=Path(args.calibration),
        limit=args.count,
        variants=tuple(args.variant or ("best",)),
        exact_images=1,
        request=InputRequest(shape=shape or None),
    )
    try:
        rows = compare(options)
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    print(table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
