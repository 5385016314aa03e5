"""VTAConfig: geometry, buffers, bus, clock and capabilities of one VTA machine, and its sizes.

A machine is a JSON file with the keys of the original ``vta_config.json`` (LOG_BLOCK,
LOG_INP_BUFF_SIZE, ...) and, optionally, our own: NAME, CLOCK_HZ, BUS_BITS, BURST_BEATS,
CAPABILITIES, TIMING.
``presets/`` holds one file a machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from vta_config.errors import ConfigError
from vta_config.files import read_bounded
from vta_config.isa import check_widths
from vta_config.timing import PROFILES, TimingProfile

PRESET_DIR: Final = Path(__file__).parent / "presets"
PAGE_BYTES: Final = 4096
#: Of a file that describes a machine.
MAX_JSON_BYTES: Final = 1 << 20
#: Extras beyond the portable subset that a machine may declare (docs/isa.md).
CAPABILITIES: Final = ("mul", "acc_8bit", "shr_register")
#: Widths of the memory bus, and beats of a burst.
BUS_BITS: Final = (32, 64, 128, 256, 512)
BURST_BEATS: Final = (2, 4, 8, 16, 32, 64, 128, 256)
#: Timing models of the cycle-level simulator.
TIMINGS: Final = tuple(PROFILES)
#: What the original TARGET says of a board: DefaultPynqConfig has AXI lengths of 8 bits,
#: DefaultDe10Config of 4; 100 MHz, 64 bits and bursts of 16 beats otherwise (docs/machine.md).
_BOARDS: Final[dict[str, dict[str, Any]]] = {
    "pynq": {"burst_beats": 256},
    "ultra96": {"clock_hz": 333e6, "bus_bits": 128},
    "zcu104": {"clock_hz": 333e6, "bus_bits": 128},
}
#: LOG_ACC_WIDTH of every machine, so that a file may leave it out.
_LOG_ACC_WIDTH: Final = 5
#: Beats of a burst where a file says nothing.
STOCK_BURST_BEATS: Final = 16
#: Original keys that name the target or the build and say nothing about geometry.
_IGNORED_KEYS: Final = frozenset({"TARGET", "HW_VER", "LOG_OUT_WIDTH", "LOG_OUT_BUFF_SIZE"})


def _log2_field(key: str, low: int, high: int) -> Any:
    """Declare a dataclass field read from JSON key `key`, an integer in [low, high]."""
    return field(metadata={"key": key, "range": (low, high)})


@dataclass(frozen=True, slots=True, kw_only=True)
class VTAConfig:
    """Describe one VTA machine; sizes are base-2 logarithms as in the original configuration.

    Raises
    ------
    ConfigError
        When a value is out of range, a buffer cannot hold two elements (one, double buffered), or
        the fields do not fit a 128-bit instruction or a 32-bit micro-op.
    """

    log_inp_width: int = _log2_field("LOG_INP_WIDTH", 2, 3)
    log_wgt_width: int = _log2_field("LOG_WGT_WIDTH", 2, 3)
    log_acc_width: int = _log2_field("LOG_ACC_WIDTH", _LOG_ACC_WIDTH, _LOG_ACC_WIDTH)
    log_batch: int = _log2_field("LOG_BATCH", 0, 4)
    log_block: int = _log2_field("LOG_BLOCK", 2, 7)
    log_uop_buff_bytes: int = _log2_field("LOG_UOP_BUFF_SIZE", 3, 24)
    log_inp_buff_bytes: int = _log2_field("LOG_INP_BUFF_SIZE", 3, 28)
    log_wgt_buff_bytes: int = _log2_field("LOG_WGT_BUFF_SIZE", 3, 28)
    log_acc_buff_bytes: int = _log2_field("LOG_ACC_BUFF_SIZE", 3, 28)
    name: str = "custom"
    clock_hz: float = 100e6
    bus_bits: int = 64
    #: Beats that a burst on the bus has at most; none crosses a multiple of this many bus words.
    burst_beats: int = STOCK_BURST_BEATS
    capabilities: frozenset[str] = frozenset()
    timing: str = "chisel"

    def __post_init__(self) -> None:
        """Check every range and that instructions and buffers can work."""
        for f in fields(self):
            if "range" not in f.metadata:
                continue
            value, (low, high) = getattr(self, f.name), f.metadata["range"]
            if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
                raise ConfigError(
                    f"{self.name}.{f.metadata['key']}",
                    f"must be an integer in [{low}, {high}]" if low < high else f"must be {low}",
                    got=repr(value),
                    hint=_logarithm_of(f.metadata["key"], value, low, high),
                )
        if isinstance(self.clock_hz, bool) or not (
            isinstance(self.clock_hz, int | float) and 1 <= self.clock_hz < 1 << 32
        ):
            raise ConfigError(
                f"{self.name}.CLOCK_HZ",
                "must be a frequency of at least 1 Hz below 2^32 Hz",
                got=repr(self.clock_hz),
                hint="give a number in Hz; 100000000 is stock",
            )
        if type(self.bus_bits) is not int or self.bus_bits not in BUS_BITS:
            raise ConfigError(
                f"{self.name}.BUS_BITS",
                "must be 32, 64, 128, 256 or 512 bits",
                got=repr(self.bus_bits),
                hint="choose one of these; 64 is stock",
            )
        beats = self.burst_beats
        if not isinstance(beats, int) or beats not in BURST_BEATS:
            raise ConfigError(
                f"{self.name}.BURST_BEATS",
                "must be a power of two in [2, 256]",
                got=repr(beats),
                hint="16 is that of DefaultDe10Config, 256 that of DefaultPynqConfig",
            )
        if not isinstance(self.name, str):
            raise ConfigError(
                "NAME", "must be a string", got=repr(self.name), hint="name the machine"
            )
        if self.timing not in TIMINGS:
            raise ConfigError(
                f"{self.name}.TIMING",
                f"must be among {', '.join(TIMINGS)}",
                got=repr(self.timing),
                hint="leave it out for the stock hardware",
            )
        unknown = self.capabilities - set(CAPABILITIES)
        if unknown:
            raise ConfigError(
                f"{self.name}.CAPABILITIES",
                f"must be among {', '.join(CAPABILITIES)}",
                got=sorted(unknown),
                hint="remove the others",
            )
        for memory in ("uop", "inp", "wgt", "acc"):
            log_depth = getattr(self, f"log_{memory}_depth")
            if log_depth < 1:
                log_bytes = getattr(self, f"log_{memory}_buff_bytes")
                least = log_bytes - log_depth + 1
                raise ConfigError(
                    f"{self.name}.LOG_{memory.upper()}_BUFF_SIZE",
                    f"must hold at least two {memory} elements (one, double buffered) of "
                    f"{1 << least - 1:,} bytes: at least {least}",
                    got=f"{log_bytes}",
                    hint="enlarge the buffer"
                    if memory == "uop"
                    else "enlarge the buffer or reduce LOG_BLOCK or LOG_BATCH",
                )
        check_widths(self)

    # ---- reading and writing -------------------------------------------------------------------
    @classmethod
    def from_json(cls, source: dict[str, Any], *, name: str = "custom") -> VTAConfig:
        """Read a machine from the keys of an original ``vta_config.json`` and our optional ones.

        Raises
        ------
        ConfigError
            On a missing or unknown key, or a value out of range.
        """
        known = {f.metadata["key"]: f.name for f in fields(cls) if "key" in f.metadata}
        own = {
            "NAME": "name",
            "CLOCK_HZ": "clock_hz",
            "BUS_BITS": "bus_bits",
            "BURST_BEATS": "burst_beats",
            "CAPABILITIES": "capabilities",
            "TIMING": "timing",
        }
        where = str(source.get("NAME", name))
        values: dict[str, Any] = {"name": where, "log_acc_width": _LOG_ACC_WIDTH}
        values |= _BOARDS.get(str(source.get("TARGET")), {})
        # LOG_BLOCK stands for both in the original; some files spell the two out.
        source = dict(source)
        for alias in ("LOG_BLOCK_IN", "LOG_BLOCK_OUT"):
            if alias in source:
                value = source.pop(alias)
                if source.setdefault("LOG_BLOCK", value) != value:
                    raise ConfigError(
                        f"{where}.{alias}",
                        "must equal LOG_BLOCK",
                        got=value,
                        hint="VTA blocks are square",
                    )
        for key, value in source.items():
            if key in known:
                values[known[key]] = value
            elif key == "CAPABILITIES":
                if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
                    raise ConfigError(
                        f"{where}.CAPABILITIES",
                        "must be a list of names",
                        got=repr(value),
                        hint="[] is stock",
                    )
                values["capabilities"] = frozenset(value)
            elif key in own:
                values[own[key]] = value
            elif key not in _IGNORED_KEYS:
                raise ConfigError(
                    f"{where}.{key}",
                    "is not a known key",
                    hint=f"known: {', '.join([*known, *own])}",
                )
        missing = [key for key, attr in known.items() if attr not in values]
        if missing:
            raise ConfigError(
                where, f"must have the key {missing[0]}", hint="see vta_config/presets/default.json"
            )
        return cls(**values)

    @classmethod
    def load(cls, preset_or_path: str | Path) -> VTAConfig:
        """Load a preset by name (``default``, ``ultra96``, ...) or a JSON file by path.

        Raises
        ------
        ConfigError
            When there is no such preset or file, or the file is not a valid machine.
        """
        path = PRESET_DIR / f"{preset_or_path}.json"
        if not path.is_file():
            path = Path(preset_or_path)
        try:
            source = json.loads(read_bounded(path, MAX_JSON_BYTES).decode("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            problem = (
                "is neither a preset nor a readable file"
                if isinstance(error, OSError)
                else "is not JSON"
            )
            raise ConfigError(
                str(preset_or_path), problem, hint=f"presets: {', '.join(preset_names())}"
            ) from None
        if not isinstance(source, dict):
            raise ConfigError(
                str(path),
                "must be a JSON object",
                got=type(source).__name__,
                hint="see vta_config/presets",
            )
        return cls.from_json(source, name=path.stem)

    def to_json(self) -> dict[str, Any]:
        """Return the machine as JSON keys and values that `from_json` reads back.

        BURST_BEATS is left out where it is the stock one, so that programs of such machines stay
        the bytes that they were before there was the key.
        """
        result: dict[str, Any] = {
            f.metadata["key"]: getattr(self, f.name) for f in fields(self) if "key" in f.metadata
        }
        result |= {
            "NAME": self.name,
            "CLOCK_HZ": self.clock_hz,
            "BUS_BITS": self.bus_bits,
            "CAPABILITIES": sorted(self.capabilities),
            "TIMING": self.timing,
        }
        if self.burst_beats != STOCK_BURST_BEATS:
            result["BURST_BEATS"] = self.burst_beats
        return result

    # ---- timing --------------------------------------------------------------------------------
    @property
    def profile(self) -> TimingProfile:
        """The cycle counts of its generation of the hardware."""
        return PROFILES[self.timing]

    # ---- geometry ------------------------------------------------------------------------------
    @property
    def batch(self) -> int:
        """Rows of an inp, acc and out element."""
        return 1 << self.log_batch

    @property
    def block(self) -> int:
        """Lanes: input channels and output channels of one GEMM step."""
        return 1 << self.log_block

    @property
    def inp_bits(self) -> int:
        """Bits of a lane of inp and of out: 8 (int8) or 4 (int4)."""
        return 1 << self.log_inp_width

    @property
    def wgt_bits(self) -> int:
        """Bits of a lane of wgt: 8 (int8) or 4 (int4)."""
        return 1 << self.log_wgt_width

    @property
    def narrow(self) -> bool:
        """Whether an operand of GEMM has fewer than 8 bits."""
        return min(self.inp_bits, self.wgt_bits) < 8

    @property
    def inp_max(self) -> int:
        """The largest number that an inp lane holds whose negative it holds, too: 127 or 7."""
        return (1 << self.inp_bits - 1) - 1

    @property
    def wgt_max(self) -> int:
        """The largest number that a wgt lane holds whose negative it holds, too: 127 or 7."""
        return (1 << self.wgt_bits - 1) - 1

    @property
    def inp_elem_bytes(self) -> int:
        """Bytes of one inp element, int[batch, block] of 2^LOG_INP_WIDTH bits: int8 or int4."""
        return self.batch * self.block << self.log_inp_width >> 3

    @property
    def wgt_elem_bytes(self) -> int:
        """Bytes of one wgt element, int[block_out, block_in] of 2^LOG_WGT_WIDTH bits."""
        return self.block * self.block << self.log_wgt_width >> 3

    @property
    def acc_elem_bytes(self) -> int:
        """Bytes of one acc element, int32[batch, block]."""
        return self.batch * self.block << self.log_acc_width >> 3

    @property
    def out_elem_bytes(self) -> int:
        """Bytes of one out element, int[batch, block]; out is as wide as inp."""
        return self.inp_elem_bytes

    @property
    def log_inp_depth(self) -> int:
        """Base-2 logarithm of the number of inp elements."""
        return self.log_inp_buff_bytes - (self.log_batch + self.log_block + self.log_inp_width - 3)

    @property
    def log_wgt_depth(self) -> int:
        """Base-2 logarithm of the number of wgt elements."""
        return self.log_wgt_buff_bytes - (2 * self.log_block + self.log_wgt_width - 3)

    @property
    def log_acc_depth(self) -> int:
        """Base-2 logarithm of the number of acc (and out) elements."""
        return self.log_acc_buff_bytes - (self.log_batch + self.log_block + self.log_acc_width - 3)

    @property
    def log_uop_depth(self) -> int:
        """Base-2 logarithm of the number of micro-ops that the uop buffer holds."""
        return self.log_uop_buff_bytes - 2

    @property
    def inp_depth(self) -> int:
        """Number of inp elements."""
        return 1 << self.log_inp_depth if self.log_inp_depth >= 0 else 0

    @property
    def wgt_depth(self) -> int:
        """Number of wgt elements."""
        return 1 << self.log_wgt_depth if self.log_wgt_depth >= 0 else 0

    @property
    def acc_depth(self) -> int:
        """Number of acc elements; the out buffer is as deep."""
        return 1 << self.log_acc_depth if self.log_acc_depth >= 0 else 0

    @property
    def uop_depth(self) -> int:
        """Number of micro-ops that the uop buffer holds."""
        return 1 << self.log_uop_depth

    @property
    def bus_bytes(self) -> int:
        """Bytes that the memory bus moves a beat."""
        return self.bus_bits // 8


def _logarithm_of(key: str, value: object, low: int, high: int) -> str:
    """Return what to write in place of a value that is no logarithm in [low, high]."""
    if key.endswith("_WIDTH"):
        return "2 means 4 bits, 3 means 8 bits" if low < high else "accumulators have 32 bits"
    log = value.bit_length() - 1 if isinstance(value, int) else 0
    if isinstance(value, int) and value > high and low <= log <= high:
        return f"sizes are base-2 logarithms: {log} means {1 << log}"
    return f"sizes are base-2 logarithms: {high} means {1 << high}"


def preset_names() -> list[str]:
    """List the names of the machines in ``presets/``."""
    return sorted(path.stem for path in PRESET_DIR.glob("*.json"))
