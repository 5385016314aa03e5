"""Which part of a compiled variant runs where: the facts, and the lines that are shown."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from relay_passes.partition.layers import Fallback
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

    @property
    def vta_share(self) -> float | None:
        """The share of MACs that run on VTA, from 0 to 1; None for a model without MACs."""
        return self.vta_macs / self.macs if self.macs else None

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
    share = "none" if placement.vta_share is None else f"{placement.vta_share:.2%}"
    lines = [
        f"on VTA     {share} of {placement.macs / 1e6:,.2f} M MACs, in {programs}; "
        f"{placement.crossing_bytes / 1e6:,.3f} MB copied between host and VTA per image"
    ]
    lines += [f"on host    {line}" for line in around_lines(placement)]
    if not placement.fallbacks:
        return [*lines, f"on host    {only_ends(placement)}"]
    lines.append(f"on host    {len(placement.fallbacks):,} operators, not included in the latency:")
    by_reason: dict[str, list[str]] = {}
    for fallback in placement.fallbacks:
        by_reason.setdefault(fallback.reason, []).append(printable(fallback.label, LABEL_CHARS))
    for reason, labels in by_reason.items():
        lines.append(f"           {len(labels):,} × {reason}: {listed(labels)}")
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
    return [
        f"{what}: {listed([printable(f.label, LABEL_CHARS) for f in found])}"
        for what, found in parts.items()
        if found
    ]


def listed(labels: list[str]) -> str:
    """Name the first few."""
    more = len(labels) - _NAMED
    shown = labels if more <= 1 else labels[:_NAMED]
    text = ", ".join(shown)
    return text if more <= 1 else f"{text} and {more:,} more"
