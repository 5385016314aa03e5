"""A compiled program and its file format: what drivers run, and what people read.

A ``.vta`` file is little endian: a 32-byte header (magic ``VTAFLOW1``, version, section count, file
bytes, CRC-32 of the section table), a table of sections (tag, offset, bytes, CRC-32), and the
sections, 64-byte aligned: CONFIG (the machine, binary), INSNS (16 bytes per instruction), CONSTS
(weights, micro-ops), TENSORS (inputs and outputs) and META (JSON: names, layers, origins). Nothing
in it is executable on the host. Readers, here and in C++, reject any damage. docs/program.md
describes each field.
"""

from __future__ import annotations

import json
import math
import struct
import sys
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from flow.program.input_form import InputForm
from flow.program.layouts import (
    Border,
    Fill,
    arena_alignment_bytes,
    inp_bytes,
    pack_activation,
    plane_bytes,
    unpack_activation,
)
from flow.program.origins import origins_json, read_origins
from flow.program.program_file import (
    ALIGN,
    HEADER,
    MAGIC,
    MAX_TENSOR_ELEMS,
    SECTION,
    check_tensor,
    clipped,
    damaged,
    entry,
    integer_of,
    list_of,
    object_of,
    read_meta,
    read_sections,
    text_of,
)
from flow.system.files import write_atomic
from flow.system.limits import DEFAULT, FILE_SHARE, INSN_COST_BYTES
from relay_passes.integers.plan import QuantPlan
from vta_config.config_words import WORDS, config_words, word_of
from vta_config.errors import ArtifactError, CapacityError, ConfigError, DecodeError
from vta_config.files import read_bounded
from vta_config.hardware import VTAConfig
from vta_config.isa import INSN_BYTES, Insn, Memory, Opcode, decode_stream, encode
from vta_config.lanes import join_bit_planes, join_planes, planes_of, split_planes, unpack_lanes
from vta_config.semantics import dram_elem_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from flow.system.limits import Limits

#: Of programs without fills and borders, and with them.
VERSIONS: Final = (3, 4)
_CONFIG: Final = struct.Struct(f"<{len(WORDS)}I")
_TENSOR: Final = struct.Struct("<IIQ12I")
#: A tensor's kind: the type of its numbers, and above it planes that are not those of 8-bit lanes.
_KINDS: Final[tuple[Literal["int8", "int32"], ...]] = ("int8", "int32")
_KIND_MASK: Final = 0xFF
_PLANES_LSB: Final = 8
_FILL_LSB: Final = 16
_FILL: Final = struct.Struct("<III")
#: Planes of lanes of 8 bits.
_BYTE_PLANES: Final = {"int8": 1, "int32": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class PortTensor:
    """An input or output of a program, or a layer's tensor, in DRAM.

    Parameters
    ----------
    name : str
    dtype : {"int8", "int32"}
        What the host gives or gets.
    shape : tuple[int, int, int, int]
        NCHW as the graph has it.
    address : int
        Bytes from the arena's start.
    form : InputForm or None
        How an input's pixels lie as channels, or the border around a tensor; None as they are.
    planes : int
        Lanes of inp that a number takes, each a plane of its own in DRAM, low first: of int8 signed
        digits, of int32 plain bits (`vta_config.lanes`). 0 stands for what 8-bit lanes need: one of
        int8, four of int32.
    """

    name: str
    dtype: Literal["int8", "int32"]
    shape: tuple[int, ...]
    address: int
    form: InputForm | None = None
    planes: int = 0

    def __post_init__(self) -> None:
        """Set the planes."""
        if not self.planes:
            object.__setattr__(self, "planes", _BYTE_PLANES[self.dtype])

    @property
    def dram_shape(self) -> tuple[int, ...]:
        """NCHW as it lies in DRAM."""
        return self.shape if self.form is None else self.form.dram_shape(self.shape)

    def bytes_in(self, config: VTAConfig) -> int:
        """Return the bytes it takes in DRAM."""
        each = plane_bytes(self.dram_shape, config)
        return self.planes * each

    def pack(self, x: NDArray[np.int8], config: VTAConfig) -> NDArray[np.uint8]:
        """Return int8 NCHW as the bytes that lie in DRAM.

        Raises
        ------
        CapacityError
            When a number does not fit the planes.
        """
        if self.form is not None:
            x = self.form.arrange(x)
        if config.inp_bits == 8:
            return inp_bytes(pack_activation(x, config), config, self.name)
        digits = split_planes(x, self.planes, config.inp_bits, clipped(self.name))
        parts = [inp_bytes(pack_activation(d, config), config, self.name) for d in digits]
        return np.concatenate(parts)

    def to_bytes(self, role: int) -> bytes:
        """Return the record of a program file; `role` is 0 for inputs and 1 for outputs."""
        form = self.form or InputForm.plain(self.shape)
        pairs = (*form.patch, *form.stride, *form.padding, *form.extent)
        kind = _KINDS.index(self.dtype) | self._other_planes << _PLANES_LSB
        kind |= (form.fill & 0xFF) << _FILL_LSB
        return _TENSOR.pack(role, kind, self.address, *self.shape, *pairs)

    @property
    def _other_planes(self) -> int:
        """The planes where they are not those of 8-bit lanes, else 0, as a file has them."""
        return 0 if self.planes == _BYTE_PLANES[self.dtype] else self.planes

    @classmethod
    def from_fields(cls, name: str, fields: tuple[int, ...]) -> PortTensor:
        """Read the fields of a record of a program file."""
        _, kind, address, n, c, h, w, *pairs = fields
        patch, stride, padding, extent = zip(pairs[::2], pairs[1::2], strict=True)
        fill = (kind >> _FILL_LSB ^ 0x80) - 0x80  # its sign is bit 7
        form = InputForm(patch=patch, stride=stride, padding=padding, extent=extent, fill=fill)
        shape = (n, c, h, w)
        return cls(
            name=name,
            dtype=_KINDS[kind & _KIND_MASK],
            planes=kind >> _PLANES_LSB & 0xFF,
            shape=shape,
            address=address,
            form=None if form == InputForm.plain(shape) else form,
        )

    def unpack(self, data: NDArray[np.uint8], config: VTAConfig) -> NDArray[Any]:
        """Return NCHW integers from the bytes that lie in DRAM."""
        bits = config.inp_bits
        lanes = unpack_lanes(data, bits).reshape(self.planes, -1)
        parts = [unpack_activation(plane, self.dram_shape, config) for plane in lanes]
        if self.form is not None:
            (top, left), (_, _, h, w) = self.form.padding, self.shape
            parts = [part[:, :, top : top + h, left : left + w] for part in parts]
        if self.dtype == "int32":
            return join_bit_planes(np.stack(parts), bits)
        return parts[0] if len(parts) == 1 else join_planes(np.stack(parts), bits).astype(np.int8)

    def check_planes(self, config: VTAConfig, where: str) -> None:
        """Check that its planes are those of its numbers on a machine.

        Raises
        ------
        ArtifactError
            When they are too few or too many.
        """
        bits = config.inp_bits
        low, high = (32 // bits,) * 2 if self.dtype == "int32" else (1, planes_of(-128, 127, bits))
        if not low <= self.planes <= high:
            count = f"{low} to {high}" if low < high else f"{high}"
            damaged(
                where,
                f"must have {count} planes of the {self.dtype} tensor {clipped(self.name)}",
                self.planes,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRecord:
    """What a layer became: its output tensor and the STORE (insn index) that completes it."""

    name: str
    kind: str
    output: PortTensor
    last_store: int


@dataclass(frozen=True, kw_only=True)
class Program:
    """A compiled subgraph.

    Parameters
    ----------
    symbol : str
        The name of the function it implements.
    config : VTAConfig
        The machine it is for.
    insns : tuple[Insn, ...]
        Ended by FINISH; DRAM addresses count from the arena's start.
    constants : bytes
        They lie at `constants_at` of the arena.
    constants_at, arena_bytes : int
    inputs, outputs : tuple[PortTensor, ...]
        In call order.
    layers : tuple[LayerRecord, ...]
        In execution order.
    plan : QuantPlan, optional
        The integers of the quantized model that it is of, for people.
    fills : tuple[Fill, ...]
        What lies in the arena before the program first runs, beside constants: borders.
    """

    symbol: str
    config: VTAConfig
    insns: tuple[Insn, ...]
    constants: bytes = field(repr=False)
    constants_at: int
    arena_bytes: int
    inputs: tuple[PortTensor, ...]
    outputs: tuple[PortTensor, ...]
    layers: tuple[LayerRecord, ...]
    plan: QuantPlan | None = None
    fills: tuple[Fill, ...] = ()

    @property
    def insn_bytes(self) -> bytes:
        """All instructions, encoded for an arena at address 0."""
        return self.insns_at(0)

    @cached_property
    def _encoded(self) -> dict[int, bytes]:
        """What `insns_at` returned before, by address."""
        return {}

    def insns_at(self, arena_address: int) -> bytes:
        """Return all instructions, encoded for an arena at a physical byte address."""
        if arena_address not in self._encoded:
            self._encoded[arena_address] = self._encode(arena_address)
        return self._encoded[arena_address]

    def _encode(self, arena_address: int) -> bytes:
        sizes = {int(memory): dram_elem_bytes(memory, self.config) for memory in Memory}

        def moved(insn: Insn) -> Insn:
            transfers = insn.opcode in (Opcode.LOAD, Opcode.STORE)
            # A file may hold a type of memory that there is none of: who runs it refuses it.
            if not transfers or (size := sizes.get(insn["memory_type"])) is None:
                return insn
            return relocated(insn, arena_address // size)

        return b"".join(encode(moved(insn), self.config) for insn in self.insns)

    @property
    def arena_alignment(self) -> int:
        """What the arena's physical address must be a multiple of, in bytes."""
        return arena_alignment_bytes(self.config)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all inputs, outputs and layers' tensors, as arrays and as they are packed."""
        return sum(
            np.dtype(t.dtype).itemsize * math.prod(t.shape) + t.bytes_in(self.config)
            for t in self._tensors()
        )

    def new_arena(self) -> NDArray[np.uint8]:
        """Return the arena with fills, constants, and zeros elsewhere: uint8[arena_bytes]."""
        arena = np.zeros(self.arena_bytes, np.uint8)
        for fill in self.fills:
            arena[fill.address : fill.address + fill.size_bytes] = fill.byte
        arena[self.constants_at : self.constants_at + len(self.constants)] = np.frombuffer(
            self.constants, np.uint8
        )
        return arena

    # ---- file
    def to_bytes(self) -> bytes:
        """Write the program file."""
        sections = {
            "CONFIG": self._config_bytes(),
            "INSNS": self.insn_bytes,
            "CONSTS": self.constants,
            "TENSORS": b"".join(
                t.to_bytes(role)
                for role, group in enumerate((self.inputs, self.outputs))
                for t in group
            ),
            "META": json.dumps(self._meta(), separators=(",", ":")).encode(),
        }
        if self.fills:
            sections["FILLS"] = b"".join(_FILL.pack(*fill) for fill in self.fills)
        later = bool(self.fills) or any(t.form and t.form.fill for t in self._tensors())
        offset = HEADER.size + SECTION.size * len(sections)
        table, body = b"", b""
        for tag, data in sections.items():
            gap = -(offset + len(body)) % ALIGN
            body += bytes(gap)
            table += SECTION.pack(tag.encode(), offset + len(body), len(data), zlib.crc32(data), 0)
            body += data
        header = HEADER.pack(
            MAGIC, VERSIONS[later], len(sections), offset + len(body), zlib.crc32(table), 0
        )
        return header + table + body

    def _config_bytes(self) -> bytes:
        words = config_words(
            self.config, arena_bytes=self.arena_bytes, constants_at=self.constants_at
        )
        return _CONFIG.pack(*words)

    def _meta(self) -> dict[str, Any]:
        return {
            "symbol": self.symbol,
            "config": self.config.to_json(),
            "inputs": [t.name for t in self.inputs],
            "outputs": [t.name for t in self.outputs],
            "layers": [
                {
                    "name": r.name,
                    "kind": r.kind,
                    "output": r.output.name,
                    "dtype": r.output.dtype,
                    "shape": list(r.output.shape),
                    "address": r.output.address,
                    "last_store": r.last_store,
                }
                | ({"planes": r.output.planes} if r.output._other_planes else {})
                | ({"border": _border_json(r.output)} if r.output.form else {})
                for r in self.layers
            ],
            "origins": origins_json(self.insns, [r.name for r in self.layers]),
        } | ({} if self.plan is None else {"plan": self.plan.to_json()})

    @classmethod
    def from_bytes(
        cls, data: bytes, where: str = "program", *, limits: Limits = DEFAULT
    ) -> Program:
        """Read a program file.

        Raises
        ------
        ArtifactError
            When the bytes are not a whole, undamaged program of this version.
        CapacityError
            When its instructions take more memory than `limits` allow.
        """
        sections = read_sections(data, VERSIONS, where)
        count, odd = divmod(len(sections["INSNS"]), INSN_BYTES)
        if not limits.allows(memory_bytes=count * INSN_COST_BYTES):
            raise CapacityError(
                where,
                f"must take at most {limits.max_bytes} bytes of memory",
                got=f"{count} instructions of {INSN_COST_BYTES} bytes",
                hint="allow more where you trust it (max_bytes)",
            )
        if (
            odd
            or len(sections["CONFIG"]) != _CONFIG.size
            or len(sections["TENSORS"]) % _TENSOR.size
        ):
            damaged(where, "must have whole records in CONFIG, INSNS and TENSORS", "parts of one")
        words = _CONFIG.unpack(sections["CONFIG"])
        meta = read_meta(sections["META"], where)
        try:
            config = VTAConfig.from_json(object_of(entry(meta, "config", where), "config", where))
            decoded = decode_stream(sections["INSNS"], config)
        except (ConfigError, DecodeError) as error:
            damaged(where, "must be a whole program file", error)
        layers = tuple(
            _record(layer, count, where)
            for layer in list_of(entry(meta, "layers", where), "layers", where)
        )
        origins = read_origins(
            entry(meta, "origins", where), count, [layer.name for layer in layers], where
        )
        inputs, outputs = _ports(meta, sections["TENSORS"], where)
        program = cls(
            symbol=text_of(entry(meta, "symbol", where), "symbol", where),
            config=config,
            insns=tuple(
                Insn(*fields, origin) for fields, origin in zip(decoded, origins, strict=True)
            ),
            constants=bytes(sections["CONSTS"]),
            constants_at=word_of(words, "constants_at"),
            arena_bytes=word_of(words, "arena_bytes"),
            inputs=inputs,
            outputs=outputs,
            layers=layers,
            plan=QuantPlan.from_json(meta["plan"], where) if "plan" in meta else None,
            fills=_fills(sections.get("FILLS", memoryview(b"")), where),
        )
        if program._config_bytes() != sections["CONFIG"]:
            damaged(where, "must have one machine in CONFIG and META", "two")
        program._check_arena(where)
        return program

    def _check_arena(self, where: str) -> None:
        """Check that the constants and all tensors lie in the arena, in planes of the machine."""
        for tensor in self._tensors():
            tensor.check_planes(self.config, where)
        tensors = [(t.address, t.bytes_in(self.config), t.name) for t in self._tensors()]
        for address, size, name in [
            (self.constants_at, len(self.constants), "constants"),
            *((fill.address, fill.size_bytes, "fills") for fill in self.fills),
            *tensors,
        ]:
            if address + size > self.arena_bytes:
                damaged(
                    where,
                    f"must have {name} in the arena of {self.arena_bytes} bytes",
                    f"{size} bytes at {address}",
                )

    def _tensors(self) -> Iterator[PortTensor]:
        """Yield inputs, outputs and the layers' tensors."""
        yield from (*self.inputs, *self.outputs)
        yield from (record.output for record in self.layers)

    def save(self, path: Path) -> None:
        """Write the program file to `path`, whole or not at all.

        Raises
        ------
        ArtifactError
            When that is not possible.
        """
        write_atomic(path, self.to_bytes())

    @classmethod
    def load(cls, path: Path, *, limits: Limits = DEFAULT) -> Program:
        """Read the program file at `path`.

        Raises
        ------
        ArtifactError
            When it cannot be read, is no file, is larger than half of the memory that `limits`
            allow, or is damaged.
        CapacityError
            When its instructions take more memory than `limits` allow.
        """
        largest = sys.maxsize if limits.max_bytes < 0 else limits.max_bytes // FILE_SHARE
        try:
            data = read_bounded(path, largest)
        except (OSError, ValueError) as error:
            got = getattr(error, "strerror", None) or error
            raise ArtifactError(
                clipped(path),
                f"must be a readable file of at most {largest} bytes",
                got=got,
                hint="check the path",
            ) from None
        return cls.from_bytes(data, clipped(path), limits=limits)


def relocated(insn: Insn, elements: int) -> Insn:
    """Return a LOAD or STORE moved by `elements` in DRAM; no-ops stay as they are."""
    if not elements or not insn["x_size"]:
        return insn
    return insn.having(dram_base=insn["dram_base"] + elements)


def _record(value: object, insns: int, where: str) -> LayerRecord:
    """Read a layer of META."""
    layer = object_of(value, "layer", where)
    name = text_of(entry(layer, "name", where), "name of a layer", where)

    def integer(of: object, what: str, high: int, low: int = 0) -> int:
        return integer_of(of, f"{what} of the layer {name}", where, low, high)

    shape = list_of(entry(layer, "shape", where), "shape", where)
    if len(shape) != 4:
        damaged(where, f"must have 4 dimensions of the layer {name}", len(shape))
    shape = [integer(size, "dimension", MAX_TENSOR_ELEMS, 1) for size in shape]
    border = list_of(layer.get("border", [0] * 5), "border", where)
    if len(border) != 5:
        damaged(where, f"must have a border of 4 sizes and a number of {name}", len(border))
    border = [
        *(integer(size, "border", MAX_TENSOR_ELEMS) for size in border[:4]),
        integer(border[4], "border", 127, -128),
    ]
    form = InputForm.bordered(tuple(shape), Border(*border))
    check_tensor(shape, ((1, 1), (1, 1), form.padding, form.extent), name, where)
    dtype = entry(layer, "dtype", where)
    if dtype not in ("int8", "int32"):
        damaged(where, f"must have int8 or int32 as dtype of the layer {name}", dtype)
    return LayerRecord(
        name=name,
        kind=text_of(entry(layer, "kind", where), "kind of a layer", where),
        output=PortTensor(
            name=text_of(entry(layer, "output", where), "output of a layer", where),
            dtype=dtype,
            shape=tuple(shape),
            address=integer(entry(layer, "address", where), "address", (1 << 32) - 1),
            form=form if any(border[:4]) else None,
            planes=integer(layer.get("planes", 0), "planes", 32),
        ),
        last_store=integer(entry(layer, "last_store", where), "last_store", insns - 1),
    )


def _border_json(tensor: PortTensor) -> list[int]:
    """Return a tensor's border: the sizes above, to the left, below, to the right; its number."""
    assert tensor.form is not None
    before, extent = tensor.form.padding, tensor.form.extent
    after = (extent[a] - before[a] - tensor.shape[2 + a] for a in (0, 1))
    return [*before, *after, tensor.form.fill]


def _fills(data: memoryview, where: str) -> tuple[Fill, ...]:
    """Read the section FILLS."""
    if len(data) % _FILL.size:
        damaged(where, "must have whole records in FILLS", "parts of one")
    fills = tuple(Fill(*fields) for fields in _FILL.iter_unpack(data))
    end = 0
    for fill in fills:
        if fill.address < end:
            damaged(where, "must have fills one behind the other", fill.address)
        end = fill.address + fill.size_bytes
        if fill.byte > 0xFF:
            damaged(where, "must have bytes in [0, 255] in FILLS", fill.byte)
    return fills


def _ports(
    meta: dict[str, Any], records: memoryview, where: str
) -> tuple[tuple[PortTensor, ...], tuple[PortTensor, ...]]:
    """Read the tensors' records, and their names from META: inputs, then outputs."""
    names = [
        (role, text_of(name, f"name in {key}", where))
        for role, key in enumerate(("inputs", "outputs"))
        for name in list_of(entry(meta, key, where), key, where)
    ]
    if len(names) * _TENSOR.size != len(records):
        damaged(where, f"must have {len(names)} tensors, as META", len(records) // _TENSOR.size)
    ports: tuple[list[PortTensor], list[PortTensor]] = ([], [])
    for (role, name), fields in zip(names, _TENSOR.iter_unpack(records), strict=True):
        if fields[0] != role or fields[1] & _KIND_MASK > role or fields[1] >> _FILL_LSB + 8:
            damaged(
                where,
                "must have inputs of role 0 and kind 0, then outputs of role 1 and kind 0 or 1",
                f"{fields[:2]} of {name}",
            )
        shape, pairs = fields[3:7], [fields[at : at + 2] for at in range(7, 15, 2)]
        check_tensor(shape, pairs, name, where)
        port = PortTensor.from_fields(name, fields)
        if role and port.form is not None and not port.form.keeps_pixels(port.shape):
            damaged(where, "must have plain outputs", f"another form of {name}")
        ports[role].append(port)
    return tuple(ports[0]), tuple(ports[1])
