"""The command ``completion``: its script, run by the shell that it is for."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from flow.cli import build_parser
from flow.commands.completion import SHELLS, bash_script, table_of
from flow.options import ENGINES, KNOWN_VARIANTS
from tests.flow.fakes import call


def completed(words: list[str]) -> list[str]:
    """Return what bash offers after these words, the last of which is being typed."""
    script = bash_script(table_of(build_parser()))
    typed = " ".join(f"'{word}'" for word in words)
    run = f"{script}\nCOMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}\n_vta_flow\n"
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is missing")
    done = subprocess.run(
        [bash, "-u", "-c", run + 'printf "%s\\n" ${COMPREPLY[@]+"${COMPREPLY[@]}"}'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["vta-flow", "dep"], ["deploy"]),
        (["vta-flow", "--v"], ["--version"]),
        (["vta-flow", "deploy", "--exact"], ["--exact-images"]),
        (["vta-flow", "deploy", "--engine", ""], [*ENGINES]),
        (["vta-flow", "deploy", "--engine", "f"], ["fsim"]),
        (["vta-flow", "deploy", "--limit", "3", "--variant", "w4a8"],
         [v for v in KNOWN_VARIANTS if v.startswith("w4a8")]),
        (["vta-flow", "deploy", "--output", "-"], []),  # files
        (["vta-flow", "diff", "a", "b", "--fail"], ["--fail-on"]),
        (["vta-flow", "completion", "x"], []),
        (["vta-flow", "nothing", "--x"], []),
    ],
)  # fmt: skip
def test_bash_completes(words: list[str], wanted: list[str]) -> None:
    assert sorted(completed(words)) == sorted(wanted)


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_name_everything(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("completion", shell) == 0
    script = capsys.readouterr().out
    for command, options in table_of(build_parser()).items():
        assert command in script
        for option in options:
            for name in option.names:
                dash = "-l " if name.startswith("--") else "-s "
                word = name if shell != "fish" else dash + name.lstrip("-")
                assert word in script, (command, name)


@pytest.mark.parametrize("shell", SHELLS)
def test_shells_can_read_their_scripts(
    shell: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("completion", shell) == 0
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is missing, which checks the script")
    (tmp_path / "script").write_text(capsys.readouterr().out)
    subprocess.run([program, "-n", tmp_path / "script"], check=True, capture_output=True)
