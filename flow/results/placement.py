"""Which part of a compiled variant runs where: the facts, and the lines that are shown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from relay_passes.partition.host_work import Fallback, HostWork
from vta_config.text import printable

#: The most names that one line lists.
_NAMED: Final = 8
#: Characters of an operator's name and type.
LABEL_CHARS: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Which part of a compiled variant runs on VTA, and which on the host.

    Parameters
    ----------
    programs : int
        Number of VTA programs; the host runs operators between two of them.
    crossing_bytes : int
        Bytes copied between host and VTA for one image: the inputs and outputs of all programs.
    macs, vta_macs : int
        Multiply-accumulate operations (MACs) of convolutions and dense layers for one image: all,
        and those on VTA.
    fallbacks : tuple of Fallback
        Operators on the host, without quantizing the input and dequantizing the outputs.
    before, behind : tuple of Fallback
        Those of preprocessing and post-processing, which are not among the others.
    """

    programs: int
    crossing_bytes: int
    macs: int
    vta_macs: int
    fallbacks: tuple[Fallback, ...] = ()
    before: tuple[Fallback, ...] = ()
    behind: tuple[Fallback, ...] = ()

    @classmethod
    def of(cls, host: HostWork, *, programs: int, crossing_bytes: int) -> Placement:
        """Return the placement of a module with this work for the host."""
        return cls(
            programs=programs,
            crossing_bytes=crossing_bytes,
            macs=host.macs,
            vta_macs=host.vta_macs,
            fallbacks=host.fallbacks,
            before=host.before,
            behind=host.behind,
        )

    @property
    def vta_share(self) -> float | None:
        """The share of MACs that run on VTA, from 0 to 1; None for a model without MACs."""
        return self.vta_macs / self.macs if self.macs else None

    @property
    def macs_text(self) -> str:
        """The share of MACs on VTA, and the millions that there are: ``75.00% of 2.00 M``."""
        share = "none" if self.vta_share is None else f"{self.vta_share:.2%}"
        return f"{share} of {self.macs / 1e6:,.2f} M"

    def by_reason(self) -> dict[str, list[Fallback]]:
        """Group the operators that fell back to the host by why they did."""
        groups: dict[str, list[Fallback]] = {}
        for fallback in self.fallbacks:
            groups.setdefault(fallback.reason, []).append(fallback)
        return groups

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        share = self.vta_share
        return asdict(self) | {
            "vta_mac_share": None if share is None else round(share, 6),
            **{
                key: [asdict(fallback) for fallback in getattr(self, key)]
                for key in ("fallbacks", "before", "behind")
            },
        }


def placement_lines(placement: Placement) -> list[str]:
    """Return lines with the share of MACs on VTA, and the operators on the host by reason."""
    programs = f"{placement.programs:,} program" + ("s" if placement.programs != 1 else "")
    lines = [
        f"on VTA     {placement.macs_text} MACs, in {programs}; "
        f"{placement.crossing_bytes / 1e6:,.3f} MB copied between host and VTA per image"
    ]
    lines += [f"on host    {line}" for line in around_lines(placement)]
    if not placement.fallbacks:
        return [*lines, f"on host    {only_ends(placement)}"]
    lines.append(f"on host    {len(placement.fallbacks):,} operators, not included in the latency:")
    for reason, found in placement.by_reason().items():
        lines.append(f"           {len(found):,} × {reason}: {listed(labels_of(found))}")
    return lines


def only_ends(placement: Placement) -> str:
    """Return what is said of the host where no operator fell back to it."""
    what = "quantizing the input and dequantizing the outputs"
    return f"otherwise only {what}" if placement.before + placement.behind else f"only {what}"


def around_lines(placement: Placement) -> list[str]:
    """Return lines with preprocessing and post-processing, where there is any."""
    parts = {
        "preprocessing, before VTA": placement.before,
        "post-processing, behind VTA": placement.behind,
    }
    return [f"{what}: {listed(labels_of(found))}" for what, found in parts.items() if found]


def labels_of(operators: Iterable[Fallback]) -> list[str]:
    """Return the names of operators as lines show them."""
    return [printable(operator.label, LABEL_CHARS) for operator in operators]


def listed(labels: list[str]) -> str:
    """Name the first few."""
    more = len(labels) - _NAMED
    shown = labels if more <= 1 else labels[:_NAMED]
    text = ", ".join(shown)
    return text if more <= 1 else f"{text} and {more:,} more"
