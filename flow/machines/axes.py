"""Machines that differ in one choice or several: the axes of a design space.

An axis is one choice of a machine in the units that people use: bytes of a buffer, lanes, hertz.
`varied` makes the machine; what cannot be built is an error of `VTAConfig`, as of any machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from flow.machines.units import FREQUENCIES, SIZES, read_number, shown_bytes, shown_hertz
from vta_config.errors import ConfigError
from vta_config.hardware import BURST_BEATS, BUS_BITS, TIMINGS, VTAConfig

#: What an axis is set to: a number in its unit, or a name.
AxisValue: TypeAlias = int | float | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """One choice of a machine.

    Parameters
    ----------
    name : str
        As users write it, with hyphens.
    about : str
        A few words for help.
    field : str
        Of `VTAConfig`.
    log : bool
        Whether the field is the base-2 logarithm of the value.
    units : mapping of str to float
        Units that a value may have.
    shown : callable
        Returns a value as text that can be read again.
    values : tuple
        All that the hardware knows; () where any number may do.
    """

    name: str
    about: str
    field: str
    log: bool = False
    units: Mapping[str, float] | None = None
    shown: Callable[[Any], str] = str
    values: tuple[AxisValue, ...] = ()

    def value_of(self, machine: VTAConfig) -> AxisValue:
        """Return what a machine has chosen."""
        value: AxisValue = getattr(machine, self.field)
        return 1 << int(value) if self.log else value

    def read(self, text: str) -> AxisValue:
        """Read one value.

        Raises
        ------
        ConfigError
            When it is none of this axis.
        """
        if self.name == "profile":
            value: AxisValue = text
        else:
            value = read_number(text, self.units or {}, f"--axis {self.name}")
            # 100 would be 100 Hz, which nobody means; bytes without a unit are usual.
            if self.units is FREQUENCIES and text.strip()[-1] in "0123456789.":
                raise ConfigError(
                    f"--axis {self.name}",
                    f"must have a unit of {', '.join(FREQUENCIES)}",
                    got=repr(text),
                    hint=f"write it as in {text.strip()}MHz",
                )
        return self.checked(value)

    def checked(self, value: AxisValue) -> AxisValue:
        """Return a value that the axis may have.

        Raises
        ------
        ConfigError
            When it may not have it.
        """
        where = f"axis {self.name}"
        if self.values:
            if isinstance(value, bool) or value not in self.values:
                raise ConfigError(
                    where,
                    f"must be among {', '.join(map(self.shown, self.values))}",
                    got=_shown_any(value),
                    hint="choose one of these",
                )
            return next(v for v in self.values if v == value)
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if self.log:
            whole = int(value) if number and float(value).is_integer() else 0
            if whole < 1 or whole & (whole - 1):
                raise ConfigError(
                    where,
                    "must be a power of two",
                    got=self.shown(whole) if whole > 0 else _shown_any(value),
                    hint=self._powers_beside(whole),
                )
            return whole
        if not number:
            raise ConfigError(
                where, "must be a number", got=_shown_any(value), hint="give one, with its unit"
            )
        return value

    def _powers_beside(self, whole: int) -> str:
        if whole < 1:
            return f"give one, such as {self.shown(16)}"
        below = 1 << (whole.bit_length() - 1)
        return f"give {self.shown(below)} or {self.shown(2 * below)}"


def _shown_any(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _buffer(name: str, about: str) -> Axis:
    return Axis(
        name=f"{name}-buffer",
        about=about,
        field=f"log_{name}_buff_bytes",
        log=True,
        units=SIZES,
        shown=shown_bytes,
    )


_OPERAND_BITS: Final = (4, 8)
#: The axes in the order in which tables name them.
AXES: Final[Mapping[str, Axis]] = {
    axis.name: axis
    for axis in (
        Axis(
            name="block",
            about="input and output channels of a GEMM step",
            field="log_block",
            log=True,
        ),
        Axis(name="batch", about="rows of an element", field="log_batch", log=True),
        _buffer("inp", "bytes of the scratchpad of inputs"),
        _buffer("wgt", "bytes of the scratchpad of weights"),
        _buffer("acc", "bytes of the scratchpad of accumulators"),
        _buffer("uop", "bytes of the scratchpad of micro-ops"),
        Axis(name="bus", about="bits of the memory bus", field="bus_bits", values=BUS_BITS),
        Axis(
            name="burst",
            about="beats of a burst on the bus at most",
            field="burst_beats",
            values=BURST_BEATS,
        ),
        Axis(
            name="clock",
            about="the clock's frequency",
            field="clock_hz",
            units=FREQUENCIES,
            shown=shown_hertz,
        ),
        Axis(
            name="profile",
            about="timing profile: the generation of the hardware",
            field="timing",
            values=TIMINGS,
        ),
        Axis(
            name="weight-bits",
            about="bits of a weight; a buffer that is not set keeps its elements",
            field="log_wgt_width",
            log=True,
            values=_OPERAND_BITS,
        ),
        Axis(
            name="activation-bits",
            about="bits of an input; a buffer that is not set keeps its elements",
            field="log_inp_width",
            log=True,
            values=_OPERAND_BITS,
        ),
    )
}
#: Buffers whose elements have the width of an axis.
_BUFFER_OF: Final = {"weight-bits": "wgt-buffer", "activation-bits": "inp-buffer"}


def axis_of(name: str, where: str = "--axis") -> Axis:
    """Return an axis by its name, with hyphens or underscores.

    Raises
    ------
    ConfigError
        When there is none.
    """
    axis = AXES.get(name.replace("_", "-"))
    if axis is None:
        raise ConfigError(
            where,
            "must name an axis of a machine",
            got=name,
            hint=f"known: {', '.join(AXES)}",
        )
    return axis


def varied(machine: VTAConfig, name: str | None = None, /, **axes: AxisValue) -> VTAConfig:
    """Return a machine with other choices.

    Where only the bits of an operand change, its buffer keeps the number of its elements, as the
    presets ``w4`` and ``w4a4`` do: the fields of instructions have no room for more.

    Parameters
    ----------
    machine : VTAConfig
        What is changed.
    name : str, optional
        Of the new machine; by default that of `machine` and what was changed.
    **axes : int, float or str
        New values by the names of `AXES`; a hyphen may be an underscore: ``varied(m, block=32,
        inp_buffer=65536)``.

    Raises
    ------
    ConfigError
        When there is no such axis, a value is none of it, or the machine cannot be built.
    """
    chosen = {axis_of(key).name: value for key, value in axes.items()}
    values = {key: AXES[key].checked(value) for key, value in chosen.items()}
    for bits, buffer in _BUFFER_OF.items():
        if bits in values and buffer not in values:
            before = AXES[bits].value_of(machine)
            elems = int(AXES[buffer].value_of(machine)) // int(before)
            values[buffer] = elems * int(values[bits])
    changes: dict[str, Any] = {}
    for key, value in values.items():
        axis = AXES[key]
        changes[axis.field] = int(value).bit_length() - 1 if axis.log else value
    changed = {k: v for k, v in chosen.items() if AXES[k].value_of(machine) != values[k]}
    if name is None:
        name = " ".join((machine.name, *(told(k, v) for k, v in changed.items())))
    return replace(machine, name=name, **changes)


def refusal(machine: VTAConfig, /, **axes: AxisValue) -> str:
    """Return why `varied` cannot make a machine, without the machine's name; "" where it can."""
    try:
        varied(machine, machine.name, **axes)
    except ConfigError as error:
        return str(error).removeprefix(f"{machine.name}.")
    return ""


def told(name: str, value: AxisValue) -> str:
    """Return a choice as text, such as ``inp-buffer=32KiB``."""
    return f"{name}={AXES[name].shown(value)}"


def choices(machine: VTAConfig) -> dict[str, AxisValue]:
    """Return all that a machine has chosen, by axis."""
    return {name: axis.value_of(machine) for name, axis in AXES.items()}


def sram_bytes(machine: VTAConfig) -> int:
    """Return the bytes of all scratchpads: inp, wgt, acc, uop, and out, as deep as acc."""
    buffers = ("inp", "wgt", "acc", "uop")
    own: int = sum(1 << getattr(machine, f"log_{name}_buff_bytes") for name in buffers)
    return own + machine.acc_depth * machine.out_elem_bytes
