"""A compiled program and its file format: what drivers run, and what people read.

A ``.vta`` file is little endian: a 32-byte header (magic ``VTAFLOW1``, version, section count, file
bytes, CRC-32 of the section table), a table of sections (tag, offset, bytes, CRC-32), and the
sections, 64-byte aligned: CONFIG (the machine, binary), INSNS (16 bytes an instruction), CONSTS
(weights, micro-ops), TENSORS (inputs and outputs) and META (JSON: names, layers, origins). Nothing
in it is executable on the host. Readers, here and in C++, reject any damage. docs/program.md
describes each field.
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from flow.compiler.input_form import InputForm
from flow.compiler.memory import arena_alignment_bytes, plane_bytes
from flow.compiler.packing import join_byte_planes, pack_activation, unpack_activation
from vta_config.errors import ArtifactError, FlowError
from vta_config.hardware import CAPABILITIES, INSN_BYTES, STOCK_BURST_BEATS, VTAConfig
from vta_config.isa import WORD_BITS, Insn, Memory, Opcode, decode, encode, layout
from vta_config.semantics import dram_elem_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from flow.compiler.lower import Lowered
    from relay_passes.params import Subgraph

MAGIC: Final = b"VTAFLOW1"
#: Version 2 put dst_factor_out of GEMM and ALU at bit 64 of every machine and made ALU's src_factor
#: as wide as the deeper of acc and inp, and knew bursts of 16 beats only. Files of machines for
#: which that comes to the same (all stock geometries) are still of version 2.
VERSIONS: Final = (2, 3)
_HEADER: Final = struct.Struct("<8sIIQII")
_SECTION: Final = struct.Struct("<8sQQII")
_CONFIG: Final = struct.Struct("<16I")
_TENSOR: Final = struct.Struct("<IIQ12I")
_ALIGN: Final = 64
_TAGS: Final = ("CONFIG", "INSNS", "CONSTS", "TENSORS", "META")
_GEOMETRY: Final = (
    "log_inp_width",
    "log_wgt_width",
    "log_acc_width",
    "log_batch",
    "log_block",
    "log_uop_buff_bytes",
    "log_inp_buff_bytes",
    "log_wgt_buff_bytes",
    "log_acc_buff_bytes",
    "bus_bits",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortTensor:
    """An input or output of a program, or a layer's tensor, in DRAM.

    Parameters
    ----------
    name : str
    dtype : {"int8", "int32"}
        int32 lies as four byte planes.
    shape : tuple[int, int, int, int]
        NCHW as the graph has it.
    address : int
        Bytes from the arena's start.
    form : InputForm or None
        How an input's pixels lie as channels; None as they are.
    """

    name: str
    dtype: Literal["int8", "int32"]
    shape: tuple[int, ...]
    address: int
    form: InputForm | None = None

    @property
    def dram_shape(self) -> tuple[int, ...]:
        """NCHW as it lies in DRAM."""
        return self.shape if self.form is None else self.form.dram_shape(self.shape)

    @property
    def planes(self) -> int:
        """Byte planes: 1 or 4."""
        return 4 if self.dtype == "int32" else 1

    def bytes_in(self, config: VTAConfig) -> int:
        """Return the bytes it takes in DRAM."""
        each = plane_bytes(self.dram_shape, config)
        return self.planes * each

    def pack(self, x: NDArray[np.int8], config: VTAConfig) -> NDArray[np.uint8]:
        """Return int8 NCHW as the bytes that lie in DRAM."""
        if self.form is not None:
            x = self.form.arrange(x)
        return pack_activation(x, config).reshape(-1).view(np.uint8)

    def to_bytes(self, role: int) -> bytes:
        """Return the record of a program file; `role` is 0 for inputs and 1 for outputs."""
        form = self.form or InputForm.plain(self.shape)
        pairs = (*form.patch, *form.stride, *form.padding, *form.extent)
        return _TENSOR.pack(role, int(self.dtype == "int32"), self.address, *self.shape, *pairs)

    @classmethod
    def from_bytes(cls, name: str, record: bytes) -> PortTensor:
        """Read a record of a program file."""
        _, kind, address, n, c, h, w, *pairs = _TENSOR.unpack(record)
        patch, stride, padding, extent = zip(pairs[::2], pairs[1::2], strict=True)
        form = InputForm(patch=patch, stride=stride, padding=padding, extent=extent)
        shape = (n, c, h, w)
        return cls(
            name=name,
            dtype="int32" if kind else "int8",
            shape=shape,
            address=address,
            form=None if form == InputForm.plain(shape) else form,
        )

    def unpack(self, data: NDArray[np.uint8], config: VTAConfig) -> NDArray[Any]:
        """Return NCHW integers from the bytes that lie in DRAM."""
        planes = data.reshape(self.planes, -1).view(np.int8)
        parts = [unpack_activation(plane, self.shape, config) for plane in planes]
        return parts[0] if self.planes == 1 else join_byte_planes(np.stack(parts).view(np.uint8))


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

    @cached_property
    def insn_bytes(self) -> bytes:
        """All instructions, encoded for an arena at address 0."""
        return self.insns_at(0)

    def insns_at(self, arena_address: int) -> bytes:
        """Return all instructions, encoded for an arena at a physical byte address."""
        sizes = {memory: dram_elem_bytes(memory, self.config) for memory in Memory}
        return b"".join(
            encode(
                relocated(insn, arena_address // sizes[Memory(insn["memory_type"])]), self.config
            )
            if insn.opcode in (Opcode.LOAD, Opcode.STORE)
            else encode(insn, self.config)
            for insn in self.insns
        )

    @property
    def arena_alignment(self) -> int:
        """What the arena's physical address must be a multiple of, in bytes."""
        return arena_alignment_bytes(self.config)

    def layer_of(self, index: int) -> str:
        """Return the name of the layer that instruction `index` works for."""
        return layer_of_origin(self.insns[index].origin)

    def new_arena(self) -> NDArray[np.uint8]:
        """Return the arena with constants in place and zeros elsewhere, uint8[arena_bytes]."""
        arena = np.zeros(self.arena_bytes, np.uint8)
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
        offset = _HEADER.size + _SECTION.size * len(sections)
        table, body = b"", b""
        for tag, data in sections.items():
            gap = -(offset + len(body)) % _ALIGN
            body += bytes(gap)
            table += _SECTION.pack(tag.encode(), offset + len(body), len(data), zlib.crc32(data), 0)
            body += data
        header = _HEADER.pack(
            MAGIC,
            file_version(self.config),
            len(sections),
            offset + len(body),
            zlib.crc32(table),
            0,
        )
        return header + table + body

    def _config_bytes(self) -> bytes:
        c = self.config
        capabilities = sum(1 << i for i, name in enumerate(CAPABILITIES) if name in c.capabilities)
        fields = [getattr(c, name) for name in _GEOMETRY]
        fields += [capabilities, int(c.clock_hz), self.arena_bytes, self.constants_at]
        return _CONFIG.pack(*fields, 0 if c.burst_beats == STOCK_BURST_BEATS else c.burst_beats, 0)

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
                for r in self.layers
            ],
            "origins": [
                [origin, len(list(group))]
                for origin, group in groupby(i.origin for i in self.insns)
            ],
        }

    @classmethod
    def from_bytes(cls, data: bytes, where: str = "program") -> Program:
        """Read a program file.

        Raises
        ------
        ArtifactError
            When the bytes are not a whole, undamaged program of this version.
        """
        sections = _sections(data, where)
        try:
            config_words = _CONFIG.unpack(sections["CONFIG"])
            meta = json.loads(sections["META"])
            config = VTAConfig.from_json(meta["config"])
            _check_version(data, config)
            origins = [origin for origin, count in meta["origins"] for _ in range(count)]
            raw = sections["INSNS"]
            insns = tuple(
                _with_origin(decode(raw[i * INSN_BYTES : (i + 1) * INSN_BYTES], config), origin)
                for i, origin in enumerate(origins)
            )
            records = sections["TENSORS"]
            ports = range(0, len(records), _TENSOR.size)
            tensors = [
                PortTensor.from_bytes(name, records[at : at + _TENSOR.size])
                for name, at in zip([*meta["inputs"], *meta["outputs"]], ports, strict=True)
            ]
            program = cls(
                symbol=meta["symbol"],
                config=config,
                insns=insns,
                constants=sections["CONSTS"],
                constants_at=config_words[13],
                arena_bytes=config_words[12],
                inputs=tuple(tensors[: len(meta["inputs"])]),
                outputs=tuple(tensors[len(meta["inputs"]) :]),
                layers=tuple(_record(entry) for entry in meta["layers"]),
            )
        except (KeyError, ValueError, TypeError, struct.error, FlowError) as error:
            raise ArtifactError(
                where, "must be a whole program file", got=f"{error}", hint="compile it again"
            ) from None
        if program._config_bytes() != sections["CONFIG"] or len(raw) != INSN_BYTES * len(insns):
            raise ArtifactError(
                where, "must describe one machine and every instruction", hint="compile it again"
            )
        return program

    def save(self, path: Path) -> None:
        """Write the program file to `path`, whole or not at all."""
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(self.to_bytes())
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> Program:
        """Read the program file at `path`.

        Raises
        ------
        ArtifactError
            When it cannot be read or is damaged.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise ArtifactError(
                str(path), "must be a readable file", got=error.strerror, hint="check the path"
            ) from None
        return cls.from_bytes(data, str(path))


def file_version(config: VTAConfig) -> int:
    """Return the version of a program file for `config`: the oldest that says all of it."""
    alu = {p.field.name: p for p in layout(Opcode.ALU, config)}
    as_before = (
        alu["dst_factor_out"].lsb == WORD_BITS
        and config.log_acc_depth >= config.log_inp_depth
        and config.burst_beats == STOCK_BURST_BEATS
    )
    return VERSIONS[0] if as_before else VERSIONS[1]


def _check_version(data: bytes, config: VTAConfig) -> None:
    """Refuse a file of version 2 that has the fields of its machine at other bits."""
    version, must = _HEADER.unpack_from(data)[1], file_version(config)
    if version != must:
        raise ArtifactError(
            "version", f"must be {must} for the machine {config.name}", got=f"{version}"
        )


def relocated(insn: Insn, elements: int) -> Insn:
    """Return a LOAD or STORE moved by `elements` in DRAM; no-ops stay as they are."""
    if not elements or not insn["x_size"]:
        return insn
    values = {**insn.values, "dram_base": insn["dram_base"] + elements}
    return Insn(insn.opcode, values, insn.origin)


def layer_of_origin(origin: str) -> str:
    """Return the layer that an instruction's origin names."""
    return origin.removeprefix("wait for ").split(" tile ")[0].removesuffix(" uops")


def make_program(subgraph: Subgraph, lowered: Lowered, config: VTAConfig) -> Program:
    """Join what lowering gave with the names and shapes of the subgraph."""

    def port(name: str, shape: Sequence[int], dtype: Literal["int8", "int32"]) -> PortTensor:
        return PortTensor(
            name=name,
            dtype=dtype,
            shape=(*shape, 1, 1)[:4],
            address=lowered.tensors[name].address,
            form=lowered.forms.get(name),
        )

    last_store = {
        layer_of_origin(insn.origin): i
        for i, insn in enumerate(lowered.insns)
        if insn.opcode == Opcode.STORE and insn["x_size"]
    }
    return Program(
        symbol=subgraph.symbol,
        config=config,
        insns=tuple(lowered.insns),
        constants=lowered.constants,
        constants_at=lowered.constants_at,
        arena_bytes=lowered.arena_bytes,
        inputs=tuple(port(t.name, t.shape, t.dtype) for t in subgraph.inputs),
        outputs=tuple(port(t.name, t.shape, t.dtype) for t in subgraph.outputs),
        layers=tuple(
            LayerRecord(
                name=prepared.layer.name,
                kind=prepared.kind,
                output=port(prepared.last.output, prepared.last.out_shape, prepared.last.out_dtype),
                last_store=last_store[prepared.layer.name],
            )
            for prepared in lowered.work
        ),
    )


def _with_origin(insn: Insn, origin: str) -> Insn:
    return Insn(insn.opcode, {k: v for k, v in insn.values.items() if v}, origin)


def _record(entry: dict[str, Any]) -> LayerRecord:
    output = PortTensor(
        name=entry["output"],
        dtype=entry["dtype"],
        shape=tuple(entry["shape"]),
        address=entry["address"],
    )
    return LayerRecord(
        name=entry["name"], kind=entry["kind"], output=output, last_store=entry["last_store"]
    )


def _sections(data: bytes, where: str) -> dict[str, bytes]:
    def check(holds: bool, must: str, got: object) -> None:
        if not holds:
            raise ArtifactError(where, must, got=got, hint="compile it again")

    check(len(data) >= _HEADER.size, f"must have a header of {_HEADER.size} bytes", f"{len(data)}")
    magic, version, count, file_bytes, table_crc, _ = _HEADER.unpack_from(data)
    check(magic == MAGIC, f"must start with {MAGIC.decode()}", magic)
    versions = " or ".join(map(str, VERSIONS))
    check(version in VERSIONS, f"must be version {versions}", version)
    check(file_bytes == len(data), f"must have {file_bytes} bytes", len(data))
    end = _HEADER.size + count * _SECTION.size
    check(end <= len(data), "must hold its section table", f"{count} sections")
    table = data[_HEADER.size : end]
    check(
        zlib.crc32(table) == table_crc, "must have an undamaged section table", "another checksum"
    )
    sections: dict[str, bytes] = {}
    for tag_bytes, offset, size, crc, _ in _iter_sections(table):
        tag = tag_bytes.rstrip(b"\0").decode("ascii", "replace")
        check(offset + size <= len(data), f"must hold its section {tag}", f"{offset + size} bytes")
        section = data[offset : offset + size]
        check(
            zlib.crc32(section) == crc, f"must have an undamaged section {tag}", "another checksum"
        )
        sections[tag] = section
    missing = [tag for tag in _TAGS if tag not in sections]
    check(
        not missing,
        "must have the sections " + ", ".join(_TAGS),
        f"none named {', '.join(missing)}",
    )
    return sections


def _iter_sections(table: bytes) -> Iterator[tuple[bytes, int, int, int, int]]:
    return _SECTION.iter_unpack(table)
