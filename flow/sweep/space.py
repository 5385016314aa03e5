"""The machines of a sweep: axes, their values, constraints, and which of them are measured."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from flow.machines.axes import AXES, AxisValue, axis_of, refusal, sram_bytes, varied
from flow.sweep.where import Condition
from vta_config.errors import ConfigError, LimitError
from vta_config.files import read_bounded
from vta_config.hardware import VTAConfig

#: Values of one axis, and machines that are all measured where no number is given.
MOST_VALUES: Final = 1000
MOST_MACHINES: Final = 10_000
#: Machines that are looked at, where constraints leave out most of them.
MOST_DRAWN: Final = 1_000_000
_MOST_BYTES: Final = 1 << 20
#: What a file of a space may hold.
_KEYS: Final = ("config", "axes", "where")
_EXAMPLE: Final = (
    "write it as in block=16,32 or inp-buffer=32KiB..256KiB or clock=100MHz..200MHz:50MHz"
)


def read_axis(text: str) -> tuple[str, tuple[AxisValue, ...]]:
    """Read ``NAME=VALUES``: values with commas, ranges ``A..B`` that double, ``A..B:STEP``.

    Raises
    ------
    ConfigError
        When there is no such axis, or a value is none of it.
    """
    name, equals, rest = text.partition("=")
    if not equals:
        raise ConfigError("--axis", "must be NAME=VALUES", got=repr(text), hint=_EXAMPLE)
    axis = axis_of(name.strip())
    values: list[AxisValue] = []
    for part in rest.split(","):
        values += _range(axis.name, part.strip())
        if len(values) > MOST_VALUES:
            raise _refused(axis.name, f"must have at most {MOST_VALUES} values", "more")
    return axis.name, tuple(dict.fromkeys(values))


def read_axes(
    texts: Sequence[str],
) -> tuple[tuple[str, ...], dict[str, tuple[AxisValue, ...]]]:
    """Read axes; ``config=NAME,NAME`` names the machines that are varied.

    Returns
    -------
    configs : tuple of str
        Empty where no text names any.
    axes : dict of str to tuple of values
        By axis, in the order of the texts; a later text replaces an earlier one.

    Raises
    ------
    ConfigError
        As `read_axis`.
    """
    configs: tuple[str, ...] = ()
    axes: dict[str, tuple[AxisValue, ...]] = {}
    for text in texts:
        name, equals, rest = text.partition("=")
        if equals and name.strip() == "config":
            configs = tuple(dict.fromkeys(part.strip() for part in rest.split(",")))
        else:
            axes.update([read_axis(text)])
    return configs, axes


def _range(name: str, text: str) -> list[AxisValue]:
    axis = AXES[name]
    low_text, dots, rest = text.partition("..")
    if not text:
        raise _refused(name, "must have values", "an empty one")
    if not dots:
        return [axis.read(text)]
    high_text, colon, step_text = rest.partition(":")
    low, high = axis.read(low_text), axis.read(high_text)
    if isinstance(low, str) or isinstance(high, str):
        raise _refused(name, "must be names with commas between", repr(text))
    step = _step(name, step_text) if colon else 0.0
    if not 0 < low <= high:
        raise _refused(name, "must have ranges from a small to a large number", repr(text))
    found: list[AxisValue] = []
    value: float = low
    while value <= high * (1 + 1e-12):
        found.append(axis.checked(int(value) if float(value).is_integer() else value))
        if len(found) > MOST_VALUES:
            raise _refused(name, f"must have at most {MOST_VALUES} values", repr(text))
        value = low + len(found) * step if step else value * 2
    return found


def _step(name: str, text: str) -> float:
    value = AXES[name].read(text) if not AXES[name].log else 0
    if AXES[name].log or AXES[name].values:
        raise _refused(name, "must have ranges without a step, which double", repr(f":{text}"))
    if isinstance(value, str) or value <= 0:
        raise _refused(name, "must have a positive step", repr(text))
    return float(value)


def _refused(name: str, must: str, got: str) -> ConfigError:
    return ConfigError(f"--axis {name}", must, got=got, hint=_EXAMPLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A point of the space.

    Parameters
    ----------
    number : int
        Its place in the whole space, from 1.
    config : str
        The machine that it was made of.
    choices : mapping of str to value
        By axis, of the axes of the space.
    machine : VTAConfig, optional
        None where it cannot be built.
    reason : str
        Why it cannot; "" where it can.
    """

    number: int
    config: str
    choices: Mapping[str, AxisValue]
    machine: VTAConfig | None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """All machines: some that are varied, and the values of axes.

    Parameters
    ----------
    machines : mapping of str to VTAConfig
        What is varied, by the name that the user gave.
    axes : mapping of str to tuple of values
    """

    machines: Mapping[str, VTAConfig]
    axes: Mapping[str, tuple[AxisValue, ...]]

    def __len__(self) -> int:
        """Count the machines, those that cannot be built included."""
        total = len(self.machines)
        for values in self.axes.values():
            total *= len(values)
        return total

    def at(self, index: int) -> Machine:
        """Return a machine by its place, from 0; the last axis changes fastest."""
        number = index + 1
        chosen: dict[str, AxisValue] = {}
        for name in reversed([*self.axes]):
            index, place = divmod(index, len(self.axes[name]))
            chosen[name] = self.axes[name][place]
        config = list(self.machines)[index]
        choices = {name: chosen[name] for name in self.axes}
        base = self.machines[config]
        reason = refusal(base, **choices)
        machine = None if reason else varied(base, **choices)
        return Machine(
            number=number, config=config, choices=choices, machine=machine, reason=reason
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The machines that are measured, and what became of the others.

    Parameters
    ----------
    machines : tuple of Machine
        By number; in an order drawn by the seed where time is limited.
    total : int
        Of the space.
    left_out : int
        By constraints, of those that were looked at.
    sampled : bool
        Whether there were more than were asked for.
    seed : int
        Of the draw.
    """

    machines: tuple[Machine, ...]
    total: int
    left_out: int
    sampled: bool
    seed: int = 0


def draw(
    space: Space,
    holds: Sequence[Condition],
    area: Any,
    *,
    most: int | None = None,
    seed: int = 0,
    shuffled: bool = False,
) -> Drawn:
    """Choose the machines to measure.

    Parameters
    ----------
    space : Space
    holds : sequence of Condition
        That need no measurement.
    area : callable (machine) -> float
        Its area in mm².
    most : int, optional
        Of machines that can be built; drawn by `seed` where there are more.
    seed : int
    shuffled : bool
        Whether the order is drawn, too, so that the first of them are a fair sample.

    Raises
    ------
    LimitError
        When there are too many without a limit.
    ConfigError
        When constraints leave none.
    """
    total = len(space)
    if most is None and total > MOST_MACHINES:
        raise LimitError(
            "--axis",
            f"must span at most {MOST_MACHINES:,} machines where all are measured",
            got=f"{total:,}",
            hint="give --max-machines 100, fewer values, or --max-minutes with it",
        )
    generator = random.Random(seed)
    drawn = most is not None or shuffled
    order = _order(total, generator) if drawn else iter(range(total))
    found: list[Machine] = []
    left_out = built = looked = 0
    for index in order:
        if looked >= MOST_DRAWN:
            break
        looked += 1
        machine = space.at(index)
        if machine.machine is None:
            if len(found) - built < MOST_MACHINES:
                found.append(machine)
            continue
        if not all(c.test(_quantities(machine, area)) for c in holds):
            left_out += 1
            continue
        if most is not None and built == most:
            break
        found.append(machine)
        built += 1
    if not found or (left_out and not built):
        raise ConfigError(
            "--where",
            "must leave a machine",
            got=f"none of {looked:,}",
            hint="relax a constraint, or widen an axis",
        )
    if not shuffled:
        found.sort(key=lambda machine: machine.number)
    return Drawn(
        machines=tuple(found),
        total=total,
        left_out=left_out,
        sampled=looked < total,
        seed=seed,
    )


def _order(total: int, generator: random.Random) -> Iterator[int]:
    """Yield all places in an order that is drawn, without a list of them where they are many."""
    if total <= MOST_DRAWN:
        yield from generator.sample(range(total), total)
        return
    seen: set[int] = set()
    while True:
        index = generator.randrange(total)
        if index not in seen:
            seen.add(index)
            yield index


def _quantities(machine: Machine, area: Any) -> Any:
    """Return what looks up a quantity of a machine for constraints."""
    config = machine.machine
    assert config is not None

    def lookup(name: str) -> float | str:
        if name == "config":
            return machine.config
        value = machine_quantity(name, config, area)
        assert value is not None, name
        return value

    return lookup


def machine_quantity(name: str, config: VTAConfig, area: Any) -> float | str | None:
    """Return a quantity that a machine has before anything is measured; None of others."""
    if name in AXES:
        return AXES[name].value_of(config)
    if name == "sram":
        return sram_bytes(config)
    if name == "multipliers":
        return config.batch * config.block**2
    if name == "bandwidth":
        return config.bus_bytes * config.clock_hz
    if name == "area":
        return float(area(config))
    return None


# ---- a file --------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceFile:
    """What a file of a space holds.

    Parameters
    ----------
    config : tuple of str
        Machines that are varied.
    axes : tuple of str
        As ``--axis`` has them.
    where : tuple of str
        As ``--where`` has them.
    """

    config: tuple[str, ...] = ()
    axes: tuple[str, ...] = ()
    where: tuple[str, ...] = field(default=())


def read_space(path: Path) -> SpaceFile:
    """Read a file: ``{"config": [...], "axes": {"block": "16,32"}, "where": [...]}``.

    Raises
    ------
    ConfigError
        When it cannot be read, or holds something else.
    """
    try:
        found = json.loads(read_bounded(path, _MOST_BYTES))
    except OSError as error:
        raise _bad_file(path, "must be readable", error.strerror or error) from None
    except (ValueError, RecursionError) as error:
        raise _bad_file(path, "must be JSON", error) from None
    if not isinstance(found, dict) or not set(found) <= set(_KEYS):
        got = ", ".join(map(str, found)) if isinstance(found, dict) else type(found).__name__
        raise _bad_file(path, f"must be an object with {', '.join(_KEYS)}", got)
    axes = found.get("axes", {})
    if not isinstance(axes, dict):
        raise _bad_file(path, "must have axes by name", type(axes).__name__)
    return SpaceFile(
        config=_texts(path, "config", found.get("config", [])),
        axes=tuple(f"{name}={','.join(_values(path, name, v))}" for name, v in axes.items()),
        where=_texts(path, "where", found.get("where", [])),
    )


def _texts(path: Path, key: str, value: Any) -> tuple[str, ...]:
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise _bad_file(path, f"must have strings in {key}", value)
    return tuple(items)


def _values(path: Path, name: str, value: Any) -> list[str]:
    items = value if isinstance(value, list) else [value]
    kinds = (str, int, float)
    if not items or not all(isinstance(i, kinds) and not isinstance(i, bool) for i in items):
        raise _bad_file(path, f"must have numbers or strings for {name}", value)
    return [str(item) for item in items]


def _bad_file(path: Path, must: str, got: object) -> ConfigError:
    hint = 'write it as in {"axes": {"block": [16, 32], "inp-buffer": "32KiB..256KiB"}}'
    return ConfigError(path, must, got=got, hint=hint)
