"""``--explain`` of ``estimate``, ``deploy`` and ``time``: why, what bounds it, what would help."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from flow.data.models import model_names
from vta_config.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from flow.results.explanation import Explanation

_OPTION: Final = "--explain"
_MODELS: Final = (".onnx", ".onnx.xz", ".vta")


def explain_option(parser: argparse.ArgumentParser, *, tried: str = "") -> None:
    """Add the option; its value is "" for the whole network, None where it is not given."""
    parser.add_argument(
        _OPTION,
        nargs="?",
        const="",
        default=None,
        metavar="LAYER",
        help="explain a layer on VTA, or an operator on the host, by its name (default: all of "
        "them): why it is on the host, or what bounds it and what would help: "
        + (tried or "a wider bus, larger buffers, a larger block, fewer bits"),
    )


def check_layer(layer: str | None, what: str) -> None:
    """Check that an option's value is no model.

    Raises
    ------
    ConfigError
        When it looks like what the command takes: the option was given before it.
    """
    if layer and (layer.endswith(_MODELS) or layer in model_names()):
        raise ConfigError(
            _OPTION,
            "must be followed by the name of a layer, or come last",
            got=layer,
            hint=f"write {what} {layer} {_OPTION}",
        )


def explained(found: Explanation) -> list[RenderableType]:
    """Return what a command shows of an explanation behind its own tables."""
    from flow.explain.render import render

    return [f"\nexplained    {found.variant}", render(found, heading=False)]
