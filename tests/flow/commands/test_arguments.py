"""What becomes of options that several commands have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from flow.bit_request import BitRequest, Bound
from flow.cli import build_parser
from flow.commands.arguments import bit_request, chosen_by, options_of
from flow.learn_request import LearnRequest
from flow.options import KNOWN_VARIANTS, PLANNED_VARIANTS
from flow.worker_request import ALONE, Workers
from relay_passes.calibration.distill_options import DistillOptions
from relay_passes.variants import TABLE
from tests.flow.fakes import call
from vta_config.errors import LimitError


def test_bits_of_mixed() -> None:
    args = build_parser().parse_args(
        ["deploy", "--max-latency", "15ms", "--max-size", "0.5", "--fix-bits", "conv1=4,8",
         "--choose-from", "8,8", "--choose-from", "4,4", "--sensitivity", "hessian"]
    )  # fmt: skip
    assert bit_request(args) == BitRequest(
        limits=(
            Bound(cost="latency", value=0.015, unit="seconds"),
            Bound(cost="size", value=0.5),
        ),
        fixed={"conv1": (4, 8)},
        widths=((8, 8), (4, 4)),
        sensitivity="hessian",
    )
    assert options_of(args, None).bits == bit_request(args)


def test_commands_without_bits() -> None:
    args = build_parser().parse_args(["compare"])
    assert options_of(args, None).bits == BitRequest()


def test_calibration(tmp_path: Path) -> None:
    parse = build_parser().parse_args
    plain = options_of(parse(["deploy"]), None)
    assert (plain.calibration, plain.zero_shot, plain.distill) == (None, False, DistillOptions())
    folder = options_of(parse(["scales", "--calibration", str(tmp_path)]), None)
    assert (folder.calibration, folder.zero_shot) == (tmp_path, False)
    args = ["--distill-images", "8", "--distill-steps", "3", "--device", "cuda"]
    for command in ("deploy", "evaluate", "compare", "sweep-bits", "scales", "compile", "verify"):
        found = options_of(parse([command, "--calibration", "zero-shot", *args]), None)
        assert (found.calibration, found.zero_shot) == (None, True), command
        assert found.distill == DistillOptions(images=8, steps=3, device="cuda")
        assert found.learn == LearnRequest(device="cuda")
        effort = options_of(parse([command, "--learn", "quick"]), None)
        assert effort.learn == LearnRequest(effort="quick")


def test_variants_in_the_order_of_the_report() -> None:
    args = build_parser().parse_args(["deploy", "--variant", "mixed", "--variant", "best"])
    assert chosen_by(args) == ("best", "mixed")
    assert chosen_by(build_parser().parse_args(["deploy"])) is None


@pytest.mark.parametrize(
    "option", [("--max-bops", "3X"), ("--fix-bits", "conv1"), ("--choose-from", "16,8")]
)
def test_bad_bits_are_one_sentence(option: tuple[str, str]) -> None:
    args = build_parser().parse_args(["deploy", *option])
    with pytest.raises(LimitError, match=f"^{option[0]}: must .*, got {option[1]}; give"):
        options_of(args, None)


def test_help_says_a_word_on_each_variant(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command, names in (("deploy", KNOWN_VARIANTS), ("scales", PLANNED_VARIANTS)):
        with pytest.raises(SystemExit):
            call(command, "--help")
        text = capsys.readouterr().out
        listed = re.findall(r"^  (\w+) +\w.{10,}$", text.partition("variants:")[2], re.M)
        assert sorted(listed) == sorted(names)
        assert max(map(len, text.partition("variants:")[2].splitlines())) <= 80
    assert all(len(v.about.split()) > 2 for v in TABLE if v.name in KNOWN_VARIANTS)


def test_workers(capsys: pytest.CaptureFixture[str]) -> None:
    parse = build_parser().parse_args
    for command in ("deploy", "evaluate", "compare", "sweep-bits"):
        assert options_of(parse([command]), None).workers == ALONE
        assert options_of(parse([command, "--jobs", "3"]), None).workers == Workers(jobs=3)
        given = parse([command, "--cluster", "tcp://host:8786"])
        assert options_of(given, None).workers == Workers(cluster="tcp://host:8786")
    with pytest.raises(SystemExit):
        parse(["deploy", "--jobs", "2", "--cluster", "tcp://host:8786"])
    assert "argument --cluster: not allowed with argument --jobs" in capsys.readouterr().err
