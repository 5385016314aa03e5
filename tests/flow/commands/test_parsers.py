"""Every command has help, and its options are described once."""

from __future__ import annotations

import pytest

import flow
from flow.commands.parsers import Commands


def test_a_command_with_shared_options() -> None:
    commands = Commands("prog")
    command = commands.add("do", lambda args: 7, "Do it.", commands.model, commands.bits)
    command.add_argument("--more")
    args = commands.parser.parse_args(["do", "--more", "x", "--max-size", "0.5"])
    assert (args.command, args.more, args.max_size, args.run(args)) == ("do", "x", "0.5", 7)


def test_version_and_verbosity(capsys: pytest.CaptureFixture[str]) -> None:
    commands = Commands("prog")
    commands.add("do", lambda args: 0, "Do it.")
    for options, verbosity in ((), 0), (("-q",), -1), (("-v",), 1), (("--verbose",), 1):
        assert commands.parser.parse_args(["do", *options]).verbosity == verbosity
    with pytest.raises(SystemExit):
        commands.parser.parse_args(["do", "-q", "-v"])
    assert "not allowed with argument" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        commands.parser.parse_args(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"prog {flow.__version__}\n"


def test_the_list_of_commands_has_one_sentence_each() -> None:
    commands = Commands("prog")
    command = commands.add("do", lambda args: 0, "Do it. It takes long. Be patient.")
    assert "do  " in (listed := commands.parser.format_help())
    assert (
        " Do it.\n" in listed and "patient" not in listed and "Be patient." in command.format_help()
    )


def test_a_command_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Commands("prog").parser.parse_args([])
    assert ended.value.code == 2 and "SUBCOMMAND" in capsys.readouterr().err
