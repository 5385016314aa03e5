"""Writes program files byte by byte, independently of the compiler, to test both readers."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

import numpy as np
from builder import ARENA, INP, OUT, UOP, WGT, Builder, conv
from numpy.typing import NDArray

from vta_config.config_words import config_words
from vta_config.hardware import VTAConfig

PIXELS = 20


def join_sections(sections: dict[str, bytes]) -> bytes:
    """Return a program file of `sections`."""
    offset = 32 + 32 * len(sections)
    table = body = b""
    for tag, data in sections.items():
        body += bytes(-(offset + len(body)) % 64)
        table += struct.pack(
            "<8sQQII", tag.encode(), offset + len(body), len(data), zlib.crc32(data), 0
        )
        body += data
    head = struct.pack(
        "<8sIIQII", b"VTAFLOW1", 3, len(sections), offset + len(body), zlib.crc32(table), 0
    )
    return head + table + body


def tensor(
    role: int,
    kind: int,
    address: int,
    shape: tuple[int, ...],
    form: tuple[int, ...] | None = None,
) -> bytes:
    """Return a tensor's record; `form` is patch, stride, padding and extent."""
    form = form or (1, 1, 1, 1, 0, 0, *shape[2:])
    return struct.pack("<IIQ12I", role, kind, address, *shape, *form)


def conv_sections(weights: NDArray[np.int8], builder: Builder | None = None) -> dict[str, bytes]:
    """Return the sections of a program of a 1x1 convolution on int8[1, 16, 4, 5]."""
    b = builder or conv(tiles=5)
    consts = np.zeros(WGT + weights.size - UOP, np.uint8)
    consts[: b.uop_bytes.size] = b.uop_bytes
    consts[WGT - UOP :] = weights.reshape(-1).view(np.uint8)
    words = config_words(b.config, arena_bytes=ARENA)
    words[13] = UOP
    shape = (1, 16, 4, 5)
    store = max(i for i, insn in enumerate(b.insns) if insn.opcode == 1)
    meta: dict[str, Any] = {
        "symbol": "conv",
        "layers": [
            {
                "name": "conv",
                "kind": "conv2d",
                "output": "y",
                "dtype": "int8",
                "shape": shape,
                "address": OUT,
                "last_store": store,
            }
        ],
        "origins": {
            "table": [[None, None, origin] for origin in b.origins],
            "runs": [n for at in range(len(b.origins)) for n in (at, 1)],
        },
    }
    return {
        "CONFIG": struct.pack("<16I", *words),
        "INSNS": b.stream,
        "CONSTS": consts.tobytes(),
        "TENSORS": tensor(0, 0, INP, shape) + tensor(1, 0, OUT, shape),
        "META": json.dumps(meta).encode(),
    }


def conv_case(seed: int = 0) -> tuple[bytes, NDArray[np.int8], NDArray[np.int8]]:
    """Return a program file, an input int8[1, 16, 4, 5] and what it gives."""
    rng = np.random.default_rng(seed)
    w = rng.integers(-128, 128, (16, 16), dtype=np.int8)
    x = rng.integers(-128, 128, (1, 16, 4, 5), dtype=np.int8)
    sums = np.einsum("oi,nihw->nohw", w.astype(np.int32), x.astype(np.int32))
    y = np.clip(sums >> 4, -127, 127).astype(np.int8)
    return join_sections(conv_sections(w)), x, y


def default_config() -> VTAConfig:
    return VTAConfig.load("default")
