"""Shell completion, in real shells: what a user types before a tab, and what the program then gets."""

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.cli import COMMANDS as EXPORTER_COMMANDS
from healer.cli import COMMANDS as HEALER_COMMANDS
from tests.support import in_process
from tests.support.terminal import Terminal

COMMANDS = {"pg-slot-exporter": EXPORTER_COMMANDS, "pg-slot-healer": HEALER_COMMANDS}

TYPED = [
    ("pg-slot-exporter reh\t", ["rehearse"]),
    ("pg-slot-exporter --config.file=my\\ con\t reh\t", ["--config.file=my configuration.yml", "rehearse"]),
    ("pg-slot-exporter --config.file my\\ con\t", ["--config.file", "my configuration.yml"]),
    ("pg-slot-exporter --web.li\t:80", ["--web.listen-address=:80"]),
    ("pg-slot-exporter serve --log.f\tj\t", ["serve", "--log.format=json"]),
    ("pg-slot-exporter --log.level=d\t", ["--log.level=debug"]),
    ("pg-slot-healer completion f\t", ["completion", "fish"]),
    ("pg-slot-healer replay --off\tmy\\ con\t", ["replay", "--offline", "my configuration.yml"]),
    # The value of a flag is not a command, whatever it is called.
    ("pg-slot-healer --config.file=grants do\t --test\t", ["--config.file=grants", "doctor", "--test-alert"]),
]
START = {
    "bash": ["bash", "--norc", "--noprofile", "-i"],
    "zsh": ["zsh", "--no-rcs", "-i"],
}
SET_UP = {"bash": "PS1='READY>'", "zsh": "PS1='READY>'; setopt no_beep; autoload -U compinit; compinit -u -D"}


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts of both programs, and a file whose name has a blank."""
    folder = tmp_path_factory.mktemp("completion")
    (folder / "my configuration.yml").touch()
    for program in COMMANDS:
        for shell in ("bash", "zsh", "fish"):
            done = in_process.run(program, "completion", shell)
            assert (done.returncode, done.stderr) == (0, "")
            (folder / f"{program}.{shell}").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module", params=[*START])
def terminal(request: pytest.FixtureRequest, scripts: Path) -> Iterator[Terminal]:
    """A shell in which both programs are functions that print their arguments, and then END."""
    shell = request.param
    terminal = Terminal(START[shell], scripts)
    functions = "; ".join(f"{program}() {{ printf '<%s>\\n' \"$@\"; echo EN''D; }}" for program in COMMANDS)
    sources = "; ".join(f"source ./{program}.{shell}" for program in COMMANDS)
    try:
        terminal.type(f"{SET_UP[shell]}; {functions}; {sources}; echo SET''UP\n")
        terminal.read_until("SETUP")
        terminal.read_until("READY>")
        yield terminal
    finally:
        terminal.close()


@pytest.mark.parametrize(("typed", "arguments"), TYPED)
@pytest.mark.tools
def test_shell_completes_commands_flags_values_and_files(terminal: Terminal, typed: str, arguments: list[str]) -> None:
    terminal.type(typed + "\n")
    shown = terminal.read_until("END")
    printed = [line for line in shown.replace("\r", "").splitlines() if line.startswith("<")]
    assert printed == [f"<{argument}>" for argument in arguments]


def fish_completes(scripts: Path, program: str, line: str) -> list[str]:
    """Return what fish offers for the last word of a line."""
    code = f"source {program}.fish; complete --do-complete={shlex.quote(line)}"
    done = subprocess.run(
        ["fish", "--no-config", "-c", code],
        cwd=scripts,
        env={"PATH": os.environ["PATH"], "HOME": str(scripts), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return [offered.partition("\t")[0] for offered in done.stdout.splitlines()]


@pytest.mark.tools
def test_fish_completes_commands_flags_values_and_files(scripts: Path) -> None:
    for program, commands in COMMANDS.items():
        assert fish_completes(scripts, program, f"{program} ") == sorted(commands)
    assert fish_completes(scripts, "pg-slot-exporter", "pg-slot-exporter rehearse --js") == ["--json"]
    assert fish_completes(scripts, "pg-slot-exporter", "pg-slot-exporter --log.format=j") == ["--log.format=json"]
    assert fish_completes(scripts, "pg-slot-exporter", "pg-slot-exporter serve --log.format l") == ["logfmt"]
    assert fish_completes(scripts, "pg-slot-healer", "pg-slot-healer completion z") == ["zsh"]
    for line in ("--config.file=my", "replay my"):
        [offered] = fish_completes(scripts, "pg-slot-healer", f"pg-slot-healer {line}")
        assert offered.endswith("my configuration.yml")


@pytest.mark.parametrize("program", COMMANDS)
def test_scripts_have_every_command_and_flag(scripts: Path, program: str) -> None:
    """Without a shell: a new command is in all three without further work."""
    for shell in ("bash", "zsh", "fish"):
        script = (scripts / f"{program}.{shell}").read_text()
        for command in COMMANDS[program]:
            assert command in script
        flags = {word for word in in_process.run(program, "--help").stdout.split() if word.startswith("--")}
        for flag in flags:
            assert flag.rstrip(",]").removeprefix("--") in script
