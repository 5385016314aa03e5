"""``completion``: what makes a shell complete commands, options and their values."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from flow.commands.parsers import Commands
from flow.commands.terminal import to_stdout

PROGRAM: Final = "vta-flow"
SHELLS: Final = ("bash", "zsh", "fish")
_INSTALLED: Final = (
    "To install it: bash: vta-flow completion bash > "
    "~/.local/share/bash-completion/completions/vta-flow; zsh: add 'source <(vta-flow completion "
    "zsh)' to ~/.zshrc; fish: vta-flow completion fish > ~/.config/fish/completions/vta-flow.fish"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """An option of a command.

    Parameters
    ----------
    names : tuple of str
        ``-q``, ``--quiet``.
    values : tuple of str
        What it may be given, where that is a list.
    takes_value : bool
        Whether it is given anything.
    """

    names: tuple[str, ...]
    values: tuple[str, ...]
    takes_value: bool


def add(commands: Commands) -> None:
    """Add ``completion``."""
    parser = commands.add(
        "completion",
        _completion,
        "Write a script that makes a shell complete commands, options and their values. "
        + _INSTALLED,
    )
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(root=commands.parser)


def _completion(args: argparse.Namespace) -> int:
    table = table_of(args.root)
    scripts = {"bash": bash_script, "zsh": zsh_script, "fish": fish_script}
    with to_stdout():
        sys.stdout.write(scripts[args.shell](table))
    return 0


def table_of(parser: argparse.ArgumentParser) -> dict[str, list[Option]]:
    """Return the options of each command; those of the program itself under ``""``."""
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    parsers = {"": parser, **commands.choices}
    return {name: list(_options(own)) for name, own in parsers.items()}


def _options(parser: argparse.ArgumentParser) -> Iterator[Option]:
    for action in parser._actions:
        if action.option_strings:
            yield Option(
                names=tuple(action.option_strings),
                values=tuple(map(str, action.choices or ())),
                takes_value=action.nargs != 0,
            )


def _words(table: Mapping[str, list[Option]], command: str) -> str:
    names = [name for option in table[command] for name in option.names]
    return " ".join([*names, *([] if command else (c for c in table if c))])


def bash_script(table: Mapping[str, list[Option]]) -> str:
    """Return the script for bash; files are completed where nothing else is known."""
    values = [
        f"    {shlex.quote(f'{command} {name}')})\n"
        f'      COMPREPLY=($(compgen -W {shlex.quote(" ".join(option.values))} -- "$cur"))\n'
        "      return ;;\n"
        for command, options in table.items()
        for option in options
        if option.values
        for name in option.names
    ]
    # After an option that takes anything else, files.
    files = "|".join(
        shlex.quote(f"{command} {name}")
        for command, options in table.items()
        for option in options
        if option.takes_value and not option.values
        for name in option.names
    )
    words = [
        f"    {command}) words={shlex.quote(_words(table, command))} ;;\n"
        for command in table
        if command
    ]
    return (
        "_vta_flow() {\n"
        '  local cur="${COMP_WORDS[COMP_CWORD]}" prev="${COMP_WORDS[COMP_CWORD-1]}"\n'
        '  local command="${COMP_WORDS[1]}" words=""\n'
        "  COMPREPLY=()\n"
        '  if [ "$COMP_CWORD" -eq 1 ]; then\n'
        f'    COMPREPLY=($(compgen -W {shlex.quote(_words(table, ""))} -- "$cur"))\n'
        "    return\n"
        "  fi\n"
        f'  case "$command $prev" in\n{"".join(values)}    {files}) return ;;\n  esac\n'
        f'  case "$command" in\n{"".join(words)}  esac\n'
        '  case "$cur" in -*) COMPREPLY=($(compgen -W "$words" -- "$cur")) ;; esac\n'
        "}\n"
        f"complete -o default -F _vta_flow {PROGRAM}\n"
    )


def zsh_script(table: Mapping[str, list[Option]]) -> str:
    """Return the script for zsh, which runs that of bash."""
    return f"autoload -U +X bashcompinit && bashcompinit\n{bash_script(table)}"


def fish_script(table: Mapping[str, list[Option]]) -> str:
    """Return the script for fish."""
    commands = " ".join(command for command in table if command)
    lines = [f"complete -c {PROGRAM} -n __fish_use_subcommand -a '{commands}'"]
    for command, options in table.items():
        where = f"'__fish_seen_subcommand_from {command}'" if command else "__fish_use_subcommand"
        for option in options:
            parts = [
                f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
                for name in option.names
            ]
            if option.takes_value:
                parts.append(f"-xa '{' '.join(option.values)}'" if option.values else "-r")
            lines.append(f"complete -c {PROGRAM} -n {where} {' '.join(parts)}")
    return "\n".join(lines) + "\n"
