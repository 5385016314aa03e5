"""Show the results of stages: ``--print-after STAGE`` and ``--stop-after STAGE``."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from flow.options import PREFERENCE, Options
from flow.session import Backend, calibrate, chosen_variants, open_session
from flow.stages import Stages
from flow.system.arguments import add_list
from flow.system.files import write_atomic
from relay_passes.variants import STOCK_RELAY
from vta_config.errors import ConfigError
from vta_config.text import printable

if TYPE_CHECKING:
    from relay_passes.stage import Rows

#: The stages of `flow.pipeline.STAGES`, which takes seconds to import, and what each makes.
STAGE_ABOUT: Final[Mapping[str, str]] = {
    "fold": "the float module with constants and BatchNorm folded and tensors named",
    "profile": "the range and histogram of each tensor on calibration images",
    "rewrite": "the float module with channels reordered, or with cross-layer equalization",
    "profile-again": "profiles of the tensors whose values the rewriting changed",
    "choose-scales": (
        "the scales of each tensor and weight, limited so that no accumulator overflows"
    ),
    "moments": "the mean and covariance of each layer's inputs on calibration images",
    "round": "the weights rounded to integers",
    "correct-bias": "biases that compensate the mean error of the rounded weights",
    "learn": "the module whose weights, scales and biases were learned block by block",
    "plan": "the quantization plan: scales converted to shifts and multipliers",
    "quantize": "the module with integer operators between quantize and dequantize",
    "fuse": "the module with each conv+ReLU quantized once",
    "requantize": "the module with integers from one layer to the next",
    "partition": "the module with the operators for VTA grouped into functions",
    "compile": "the instructions of each function for VTA",
}
SKIPPED: Final = "skipped: this variant does not use this stage\n"
#: Columns of a table, and of one whose cells do not fit.
_COLUMNS: Final = 160
_WIDEST_COLUMNS: Final = 1000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--print-after`` and ``--stop-after``."""
    group = parser.add_argument_group("stages")
    group.add_argument(
        "--print-after",
        action="append",
        default=[],
        metavar="STAGE",
        help="also write the result of this stage for the deployed variant, a Relax module or a "
        "table, to after-STAGE.txt in the output folder; repeatable; the stages are listed below",
    )
    group.add_argument(
        "--stop-after",
        metavar="STAGE",
        help="write the result of this stage and stop there; nothing is measured",
    )
    add_list(parser, "stages, and what each makes", STAGE_ABOUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The stages that the user wants to see.

    Parameters
    ----------
    folder : Path
        Where the files go.
    names : frozenset of str
        What is written.
    last : str, optional
        The last stage that must run; None where nothing is wanted.
    stops : bool
        Whether the flow ends there.
    """

    folder: Path
    names: frozenset[str]
    last: str | None
    stops: bool

    @classmethod
    def of_options(cls, args: argparse.Namespace) -> Wanted:
        """Check the options and return what they ask for.

        Raises
        ------
        ConfigError
            When a stage is unknown, or comes after the one to stop after.
        """
        names, stop = list(args.print_after), args.stop_after
        if not names and stop is None:
            return cls(folder=args.output, names=frozenset(), last=None, stops=False)
        # They bring in TVM, which takes seconds to import.
        from flow.pipeline import STAGES
        from relay_passes.quantize_model import INTEGER_STAGES

        order, hint = [stage.name for stage in STAGES], "choose one of these"
        if args.variant in (STOCK_RELAY, [STOCK_RELAY]):
            order = order[order.index(INTEGER_STAGES[-1].name) :]
            hint = f"choose one of these: {STOCK_RELAY} has passes of its own before"
        for option, wanted in (("--print-after", names), ("--stop-after", [stop] if stop else [])):
            for name in wanted:
                if name not in order:
                    raise ConfigError(
                        option, f"must be among {', '.join(order)}", got=name, hint=hint
                    )
        last = max([*names, *([stop] if stop else [])], key=order.index)
        if stop is not None and last != stop:
            raise ConfigError(
                "--print-after",
                f"must not come after --stop-after {stop}",
                got=last,
                hint=f"stop after {last}, or print an earlier stage",
            )
        shown = frozenset({*names, last})
        return cls(folder=args.output, names=shown, last=last, stops=stop is not None)

    def write(self, backend: Backend, variant: str) -> tuple[Path, ...]:
        """Run the stages of a variant once more and write the files; return them, in order."""
        paths: list[Path] = []

        def after(name: str, result: Any) -> None:
            if name in self.names:
                path = self.folder / f"after-{name}.txt"
                text = text_of(result).encode(errors="backslashreplace")
                paths.append(write_atomic(path, text))

        if self.last is not None:
            backend.walk(variant, after, stop=self.last)
        return tuple(paths)


def stop(options: Options, wanted: Wanted, stages: Stages) -> tuple[Path, ...]:
    """Run the stages of the variant that would be deployed, as far as wanted, and nothing else."""
    session = open_session(options, stages, needs_images=False)
    if wanted.last != "fold":
        calibrate(session, stages)
    variant = min(chosen_variants(options, session.model), key=PREFERENCE.index)
    session.backend.prepare(variant, stages)
    with stages("stages", f"running the stages of {variant}"):
        return wanted.write(session.backend, variant)


def text_of(result: Any) -> str:
    """Return what a stage made as text: TVMScript, a table, or instructions."""
    from flow.program.asm import disassemble
    from flow.results.plan_table import host_lines, plan_table
    from relay_passes.integers.plan import QuantPlan
    from relay_passes.stage import Rows

    if result is None:
        return SKIPPED
    if isinstance(result, Rows):
        return _table(result)
    if isinstance(result, QuantPlan):
        return _drawn(plan_table(result), *map(Text, host_lines(result)), whole=True)
    if isinstance(result, tuple):  # programs
        return "\n".join(disassemble(program.insns, program.config) for program in result)
    return f"{result.script()}\n"


def _table(rows: Rows) -> str:
    table = Table(header_style="bold")
    for heading in rows.headings:
        table.add_column(heading, overflow="fold")
    for row in rows.rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return _drawn(table)


def _drawn(*parts: Any, whole: bool = False) -> str:
    file = io.StringIO()
    console = Console(file=file, width=_COLUMNS, highlight=False, markup=False)
    if whole:
        widest = console.options.update(max_width=_WIDEST_COLUMNS)
        console.width = max(console.measure(part, options=widest).maximum for part in parts)
    for part in parts:
        console.print(part)
    return file.getvalue()


def lines_of(paths: Iterable[Path]) -> list[str]:
    """Return a line for each file that was written."""
    return [f"stage      {printable(str(path))}" for path in paths]
