"""Every command has help, and its options are described once."""

from __future__ import annotations

import pytest

from flow.commands.parsers import Commands


def test_a_command_with_shared_options() -> None:
    commands = Commands("prog")
    command = commands.add("do", lambda args: 7, "Do it.", commands.model, commands.bits)
    command.add_argument("--more")
    args = commands.parser.parse_args(["do", "--more", "x", "--max-size", "0.5"])
    assert (args.command, args.more, args.max_size, args.run(args)) == ("do", "x", "0.5", 7)


def test_a_command_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        Commands("prog").parser.parse_args([])
    assert ended.value.code == 2 and "SUBCOMMAND" in capsys.readouterr().err
