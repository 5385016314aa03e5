"""A model of area and energy: what a machine and a run on it cost. It is a model, not a layout.

docs/sweep.md has the equations. The constants lie in ``constants.json``, each with its source; a
file of the user's may replace any of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flow.machines.axes import sram_bytes
from flow.sweep.work import Work
from vta_config.errors import ConfigError
from vta_config.files import read_bounded
from vta_config.hardware import VTAConfig

if TYPE_CHECKING:
    from typing import TypeGuard

CONSTANTS_FILE: Final = Path(__file__).parent / "constants.json"
_MOST_BYTES: Final = 1 << 20
#: Bits of an access that the constants of memories are of, and of the multiplier.
_ACCESS_BITS: Final = 64
_MULTIPLIER_BITS: Final = 8 * 8
#: Adder-sized units of a lane of the ALU: add, compare, shift.
_ALU_UNITS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """What the model knows of a technology.

    Parameters
    ----------
    name : str
        Of the technology.
    sram_cell_um2 : float
        Area of a bit of memory.
    sram_cells_share : float
        The share of a memory's area that is such cells, above 0 and at most 1.
    multiplier_um2 : float
        Area of a multiplier of 8 by 8 bits; others in proportion to the product of their bits.
    adder_um2 : float
        Area of a 32-bit adder.
    multiply_pj : float
        Energy of a product of 8 by 8 bits; others in proportion to the product of their bits.
    add_pj : float
        Energy of a 32-bit addition.
    sram_64_bits_pj : tuple of (bytes, pJ)
        Energy of 64 bits from a memory of so many bytes; between and beyond on straight lines of
        logarithms.
    dram_pj_per_byte : float
        Energy of a byte from or to DRAM.
    sram_static_w_per_bit : float
        Power of a bit of memory that is only kept.
    """

    name: str
    sram_cell_um2: float
    sram_cells_share: float
    multiplier_um2: float
    adder_um2: float
    multiply_pj: float
    add_pj: float
    sram_64_bits_pj: tuple[tuple[float, float], ...]
    dram_pj_per_byte: float
    sram_static_w_per_bit: float

    def access_pj(self, memory_bytes: float) -> float:
        """Return the energy of 64 bits from a memory of so many bytes."""
        points = self.sram_64_bits_pj
        if len(points) == 1:
            return points[0][1]
        k = 1
        while k < len(points) - 1 and memory_bytes > points[k][0]:
            k += 1
        (x0, y0), (x1, y1) = points[k - 1], points[k]
        slope = math.log(y1 / y0) / math.log(x1 / x0)
        return float(y0 * (memory_bytes / x0) ** slope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Area:
    """The area of a machine in mm²."""

    sram_mm2: float
    gemm_mm2: float
    alu_mm2: float

    @property
    def mm2(self) -> float:
        """All of it."""
        return self.sram_mm2 + self.gemm_mm2 + self.alu_mm2


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """The energy of one image in millijoules."""

    dram_mj: float
    sram_mj: float
    gemm_mj: float
    alu_mj: float
    static_mj: float

    @property
    def mj(self) -> float:
        """All of it."""
        return self.dram_mj + self.sram_mj + self.gemm_mj + self.alu_mj + self.static_mj


def area_of(machine: VTAConfig, constants: Constants) -> Area:
    """Return the area of a machine: memories, multipliers with an adder each, lanes of the ALU."""
    cell = constants.sram_cell_um2 / constants.sram_cells_share
    multipliers = machine.batch * machine.block**2
    each = constants.multiplier_um2 * machine.inp_bits * machine.wgt_bits / _MULTIPLIER_BITS
    lanes = machine.batch * machine.block
    return Area(
        sram_mm2=1e-6 * 8 * sram_bytes(machine) * cell,
        gemm_mm2=1e-6 * multipliers * (each + constants.adder_um2),
        alu_mm2=1e-6 * lanes * _ALU_UNITS * constants.adder_um2,
    )


def energy_of(machine: VTAConfig, work: Work, constants: Constants) -> Energy:
    """Return the energy of one image.

    A memory is as many banks of 64 bits as its element is wide, so that an access costs one of a
    bank for each of them.

    Parameters
    ----------
    machine : VTAConfig
    work : Work
        What its programs do for one image.
    constants : Constants
    """
    lanes = machine.batch * machine.block
    inp = _element_pj(machine.inp_elem_bytes, machine.inp_depth, constants)
    wgt = _element_pj(machine.wgt_elem_bytes, machine.wgt_depth, constants)
    acc = _element_pj(machine.acc_elem_bytes, machine.acc_depth, constants)
    out = _element_pj(machine.out_elem_bytes, machine.acc_depth, constants)
    uop = _element_pj(4, machine.uop_depth, constants)
    # A step reads a micro-op, and writes acc and its copy in out.
    written = acc + out + uop
    steps = work.gemm_steps + work.reset_steps + work.alu_steps
    computed = work.gemm_steps * (inp + wgt + acc) + work.alu_reads * acc + steps * written
    moved = (
        work.inp_bytes / machine.inp_elem_bytes * inp
        + work.wgt_bytes / machine.wgt_elem_bytes * wgt
        + work.acc_bytes / machine.acc_elem_bytes * acc
        + work.out_bytes / machine.out_elem_bytes * out
        + work.uop_bytes / 4 * uop
    )
    product = constants.multiply_pj * machine.inp_bits * machine.wgt_bits / _MULTIPLIER_BITS
    products = work.gemm_steps * lanes * machine.block
    static = constants.sram_static_w_per_bit * 8 * sram_bytes(machine)
    return Energy(
        dram_mj=1e-9 * constants.dram_pj_per_byte * work.dram_bytes,
        sram_mj=1e-9 * (computed + moved),
        gemm_mj=1e-9 * products * (product + constants.add_pj),
        alu_mj=1e-9 * work.alu_steps * lanes * constants.add_pj,
        static_mj=1e3 * static * work.cycles / machine.clock_hz,
    )


def _element_pj(elem_bytes: float, depth: int, constants: Constants) -> float:
    """Return the energy of reading or writing an element of a scratchpad."""
    banks = 8 * elem_bytes / _ACCESS_BITS
    bank_bytes = elem_bytes * depth / max(1.0, banks)
    return banks * constants.access_pj(bank_bytes)


# ---- reading -------------------------------------------------------------------------------------
@cache
def usual_constants() -> Constants:
    """Return the constants that are part of the package."""
    return read_constants(CONSTANTS_FILE, None)


def read_constants(path: Path, usual: Constants | None) -> Constants:
    """Read a file of constants; those of `usual` stay where it has none.

    Raises
    ------
    ConfigError
        When it cannot be read, has an unknown key, or a value that is none.
    """
    try:
        found = json.loads(read_bounded(path, _MOST_BYTES))
    except OSError as error:
        raise _refused(path, "must be readable", error.strerror or error) from None
    except (ValueError, RecursionError) as error:
        raise _refused(path, "must be JSON", error) from None
    if not isinstance(found, dict):
        raise _refused(path, "must be a JSON object", type(found).__name__)
    names = [f.name for f in fields(Constants)]
    for key in found:
        if key not in names:
            raise ConfigError(
                str(path),
                "must have constants of the model only",
                got=key,
                hint=f"known: {', '.join(names)}",
            )
    values: dict[str, Any] = {}
    for name in names:
        if name in found:
            values[name] = _value(path, name, found[name])
        elif usual is None:
            raise _refused(path, f"must have {name}", "none")
        else:
            values[name] = path.stem if name == "name" else getattr(usual, name)
    return Constants(**values)


def sources(path: Path) -> Mapping[str, str]:
    """Return where each constant of a file comes from, as the file says."""
    found = json.loads(read_bounded(path, _MOST_BYTES))
    return {k: str(v["source"]) for k, v in found.items() if isinstance(v, dict) and "source" in v}


def _value(path: Path, name: str, found: Any) -> Any:
    where = f"{path}: {name}"
    value = found.get("value") if isinstance(found, dict) else found
    if name == "name":
        if not isinstance(value, str):
            raise _refused(where, "must be a string", value)
        return value
    if name == "sram_64_bits_pj":
        return _points(where, value)
    if not _positive(value):
        raise _refused(where, "must be a positive number", value)
    if name == "sram_cells_share" and value > 1:
        raise _refused(where, "must be at most 1", value)
    return float(value)


def _positive(value: Any) -> TypeGuard[float]:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value > 0
    )


def _points(where: str, value: Any) -> tuple[tuple[float, float], ...]:
    pairs: Sequence[Any] = value if isinstance(value, list) else ()
    good = bool(pairs) and all(
        isinstance(p, list) and len(p) == 2 and all(map(_positive, p)) for p in pairs
    )
    sizes = [p[0] for p in pairs] if good else []
    if not good or sizes != sorted(set(sizes)):
        raise _refused(where, "must be a list of [bytes, pJ], the smallest memory first", value)
    return tuple((float(x), float(y)) for x, y in pairs)


def _refused(where: object, must: str, got: object) -> ConfigError:
    return ConfigError(where=where, must=must, got=got, hint=f"see {CONSTANTS_FILE.name}")
