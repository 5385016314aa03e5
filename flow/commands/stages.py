"""What ``--stop-after`` does, for the commands that have it."""

from __future__ import annotations

from flow.commands.terminal import Terminal, show
from flow.options import Options
from flow.show_stages import Wanted, lines_of, stop
from flow.stages import Stages


def stop_early(options: Options, wanted: Wanted) -> int:
    """Run the stages that are wanted, write what they make, and return the exit code."""
    show(*lines_of(stop(options, wanted, Stages(Terminal()))), kept=str(wanted.folder))
    return 0
