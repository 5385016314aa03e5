"""Read an ONNX file that may be anything: in bounds, whole, of a form that later stages know.

What is spent before a model is known to be good is bounded by `Limits`, which users can raise.
"""

from __future__ import annotations

import lzma
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from google.protobuf.message import DecodeError as ProtobufError  # type: ignore[import-untyped]
from onnx.inliner import inline_local_functions

from flow.frontend.onnx_checks import check_structure, damaged, tensors_of
from flow.frontend.onnx_legacy import modernize
from vta_config.errors import UnsupportedModelError

#: Oldest operator set that TVM and ONNX Runtime read; models of older ones are converted to it.
OLDEST_OPSET: Final = 7
#: From this version of the file format on, weights need not be listed as inputs.
MODERN_IR: Final = 8
#: Operator sets in which a Resize may not leave out inputs, though many files do.
_RESIZE_OF_ALL_INPUTS: Final = frozenset({11, 12})
_CHUNK_BYTES: Final = 1 << 20
#: What unpacking may take besides the result; ``xz -9`` takes 65 MiB.
_XZ_MEMORY_BYTES: Final = 128 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a model may cost at most; all limits grow with `factor`.

    Parameters
    ----------
    factor : float
        1 by default.
    """

    factor: float = 1.0

    @property
    def file_bytes(self) -> int:
        """Bytes of the file, unpacked, with its external data: 640 MiB."""
        return int(self.factor * (640 << 20))

    @property
    def tensor_bytes(self) -> int:
        """Bytes of one tensor of one image, in float32: 256 MiB."""
        return int(self.factor * (256 << 20))

    @property
    def multiplications(self) -> int:
        """Multiplications of convolutions and dense layers for one image: 200e9."""
        return int(self.factor * 200_000_000_000)

    def check(self, where: str, what: str, amount: int, limit: int) -> None:
        """Refuse what costs too much.

        Raises
        ------
        UnsupportedModelError
            When `amount` is more than `limit`.
        """
        if amount > limit:
            raise UnsupportedModelError(
                where,
                f"must take at most {limit:,} {what}",
                got=f"{amount:,}" if amount < 1 << 62 else "more",
                hint="use a smaller model, or raise the limits with --model-limit FACTOR",
            )


def read_bytes(path: Path, limits: Limits | None = None) -> bytes:
    """Read ``FILE.onnx`` or ``FILE.onnx.xz``; return the ``.onnx`` bytes.

    Raises
    ------
    UnsupportedModelError
        When the file is missing, unreadable, not whole or too large.
    """
    limits = limits or Limits()
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            got = "a folder" if stat.S_ISDIR(mode) else "something that is no ordinary file"
            raise _no_file(path, got)
        limits.check(str(path), "bytes", path.stat().st_size, limits.file_bytes)
        if path.suffix == ".xz":
            return _unpack(path, limits)
        return path.read_bytes()
    except FileNotFoundError:
        raise _no_file(path, "no such file") from None
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        raise UnsupportedModelError(
            str(path),
            "must be readable",
            got=str(error) or type(error).__name__,
            hint="download the file again",
        ) from None


def _no_file(path: Path, got: str) -> UnsupportedModelError:
    return UnsupportedModelError(
        str(path),
        "must be an ONNX file",
        got=got,
        hint="check the path, or see --model in --help",
    )


def _unpack(path: Path, limits: Limits) -> bytes:
    """Unpack piece by piece, so that a small file cannot fill the memory, nor its dictionary."""
    result = bytearray()
    decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)
    with path.open("rb") as file:
        packed = file.read(_CHUNK_BYTES)
        while packed or not decompressor.needs_input:
            if decompressor.eof:  # another stream follows
                packed = decompressor.unused_data + packed
                decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)
            result += decompressor.decompress(packed, _CHUNK_BYTES)
            limits.check(str(path), "bytes when unpacked", len(result), limits.file_bytes)
            more = decompressor.needs_input or decompressor.eof
            packed = file.read(_CHUNK_BYTES) if more else b""
            if decompressor.eof and not packed and not decompressor.unused_data:
                return bytes(result)
    raise EOFError("the end is missing")


def parse(data: bytes, path: Path, limits: Limits | None = None) -> Any:
    """Parse ``.onnx`` bytes, with external data, as a model of today's form; check it.

    Parameters
    ----------
    data : bytes
        As `read_bytes` returns them.
    path : Path
        Where they are from; external data lies beside it.
    limits : Limits, optional
        Bound the external data.

    Returns
    -------
    onnx.ModelProto
        Local functions are inlined; attributes have types, operators a version (files of IR version
        1 and 2 say neither); weights are not listed as inputs; versions before `OLDEST_OPSET` are
        converted.

    Raises
    ------
    UnsupportedModelError
        When the bytes are not a whole, valid ONNX model.
    """
    try:
        proto = onnx.load_model_from_string(data)
    except (ProtobufError, ValueError) as error:
        raise damaged(path, error) from None
    if not proto.graph.node:
        raise UnsupportedModelError(
            str(path),
            "must contain a graph",
            got=f"{len(data)} bytes without a node",
            hint="download or export the file again",
        )
    _load_external_data(proto, path, limits or Limits())
    check_structure(proto, path)
    _complete(proto)
    try:
        if proto.functions:
            proto = inline_local_functions(proto)
        if default_opset(proto) < OLDEST_OPSET:
            modernize(proto, OLDEST_OPSET)
        _hide_weights(proto)
        if not all(v.type.tensor_type.HasField("shape") for v in proto.graph.output):
            proto = onnx.shape_inference.infer_shapes(proto)  # as of a model that was cut by hand
        onnx.checker.check_model(proto)
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        RuntimeError,  # the inliner's
        ValueError,
    ) as error:
        raise damaged(path, error) from None
    return proto


def default_opset(proto: Any) -> int:
    """Return the version of the default operator set."""
    versions = [e.version for e in proto.opset_import if e.domain in ("", "ai.onnx")]
    return int(versions[0]) if versions else 1


def _complete(proto: Any) -> None:
    """Add what files of IR version 1 and 2 leave out; name the default domain in one way."""
    graph = proto.graph
    if not proto.opset_import:
        proto.opset_import.append(onnx.helper.make_opsetid("", 1))
    for entry in proto.opset_import:
        if entry.domain == "ai.onnx":
            entry.domain = ""
    for node in graph.node:
        if node.domain == "ai.onnx":
            node.domain = ""
        if node.op_type == "Resize" and default_opset(proto) in _RESIZE_OF_ALL_INPUTS:
            _fill_inputs(graph, node)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.UNDEFINED:  # IR version 1
                attribute.type = _attribute_type(attribute)


def _fill_inputs(graph: Any, node: Any) -> None:
    """Give a Resize empty tensors for inputs that it leaves out, which it later may."""
    for place, name in enumerate(node.input):
        if not name:
            node.input[place] = f"{node.output[0]}.nothing"
    if f"{node.output[0]}.nothing" in node.input:
        nothing = np.zeros(0, np.float32)
        graph.initializer.append(onnx.numpy_helper.from_array(nothing, f"{node.output[0]}.nothing"))


def _hide_weights(proto: Any) -> None:
    """Take weights off the inputs, as files of version 4 and newer do; before, they were listed."""
    graph = proto.graph
    weights = {tensor.name for tensor in graph.initializer}
    weights |= {sparse.values.name for sparse in graph.sparse_initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    del graph.input[:]
    graph.input.extend(inputs)
    # Before version 4, initializers count only where they are listed as inputs.
    proto.ir_version = max(proto.ir_version, MODERN_IR)


def _attribute_type(attribute: Any) -> Any:
    types = onnx.AttributeProto
    lists = ("floats", "ints", "strings", "tensors", "graphs")
    for name in lists:
        if getattr(attribute, name):
            return types.AttributeType.Value(name.upper())
    singles = {"f": types.FLOAT, "i": types.INT, "s": types.STRING, "t": types.TENSOR}
    found = (kind for name, kind in singles.items() if attribute.HasField(name))
    return next(found, types.INTS)  # an empty list: mostly of integers


def _load_external_data(proto: Any, path: Path, limits: Limits) -> None:
    """Read tensors that lie in other files, which must be ordinary ones beside the model."""
    total = 0
    folder = path.parent.resolve()
    for tensor in tensors_of(proto.graph):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        fields = {entry.key: entry.value for entry in tensor.external_data}
        where = f"{path} tensor {tensor.name}"
        location = fields.get("location", "")
        file = (folder / location).resolve()
        if not location or not file.is_relative_to(folder) or not file.is_file():
            raise UnsupportedModelError(
                where,
                "must be in a file in the model's folder",
                got=location or "no name",
                hint="put the model's data files where the model is",
            )
        try:
            offset = int(fields.get("offset", 0))
            length = int(fields.get("length", file.stat().st_size - offset))
        except ValueError as error:
            raise damaged(path, f"tensor {tensor.name}: {error}") from None
        if min(offset, length) < 0 or offset + length > file.stat().st_size:
            raise damaged(path, f"tensor {tensor.name} lies beyond the end of {location}")
        total += length
        limits.check(where, "bytes with the external data before it", total, limits.file_bytes)
        with file.open("rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]
