"""A program prints the password: what it may do, how long, and how often it is run."""

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pgslot.cli.errors import ConfigError
from pgslot.config.password_command import PasswordCommand
from pgslot.postgres import passwords as module
from pgslot.postgres.passwords import Passwords, first_line, passwords
from tests.support.running_healer import until

pytestmark = pytest.mark.tools

SECRET = "s3cr3t-t0k3n"


def shell(script: str, ttl: float | None = None) -> PasswordCommand:
    return PasswordCommand(("/bin/sh", "-c", script), ttl, "pgslot.yml:4: clusters.a.nodes.n.password_command")


@pytest.fixture
def counted(tmp_path: Path) -> Callable[[], int]:
    """Return how often the command of `count()` was run."""
    return lambda: len((tmp_path / "runs").read_text().split()) if (tmp_path / "runs").exists() else 0


def count(tmp_path: Path, ttl: float | None = None, seconds: float = 0) -> PasswordCommand:
    """Return a command that prints how often it was run."""
    runs = tmp_path / "runs"
    return shell(f"echo x >> {runs}; sleep {seconds}; wc -l < {runs} | tr -d ' '", ttl)


@pytest.mark.parametrize(
    ("arguments", "password"),
    [
        (("printf", "%s", SECRET), SECRET),
        (("printf", "%s\\r\\n%s\\n", SECRET, "more"), SECRET),
        (("printf", " in 'quotes' \\n"), " in 'quotes' "),
        # No shell: the arguments reach the program as they are.
        (("echo", "$HOME; $(id) *"), "$HOME; $(id) *"),
    ],
)
async def test_first_line_of_the_output_is_the_password(arguments: tuple[str, ...], password: str) -> None:
    assert await first_line(PasswordCommand(arguments)) == password


@pytest.mark.parametrize(
    ("script", "found"),
    [
        (f"echo {SECRET}; echo {SECRET} >&2; exit 7", "found exit code 7 of /bin/sh"),
        ("true", "found that /bin/sh printed none"),
        (f"echo; echo {SECRET}", "found that /bin/sh printed none"),
        ("printf '\\377\\n'", "found output of /bin/sh that is not UTF-8 text"),
        ("head -c 200000 /dev/zero | tr '\\0' s", "found a longer one by /bin/sh"),
    ],
)
async def test_error_names_the_place_and_shows_nothing_that_was_printed(
    script: str, found: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ConfigError) as raised:
        await first_line(shell(script))
    text = str(raised.value)
    assert text.startswith("pgslot.yml:4: clusters.a.nodes.n.password_command: expected ")
    assert found in text
    assert SECRET not in text + caplog.text + repr(shell(SECRET))


async def test_program_that_cannot_be_run_is_named() -> None:
    with pytest.raises(ConfigError, match="found /no/such/program: No such file or directory"):
        await first_line(PasswordCommand(("/no/such/program",)))


async def test_program_that_goes_on_is_ended_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PASSWORD_COMMAND_SECONDS", 0.5)
    pids = tmp_path / "pids"
    with pytest.raises(ConfigError, match="expected a password within"):
        await first_line(shell(f"sleep 600 & echo $! $$ > {pids}; wait"))
    await until(lambda: not any(map(alive, pids.read_text().split())), "the program and its child have ended")


def alive(pid: str) -> bool:
    """Return whether the process runs; a zombie, which waits for its parent, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_concurrent_connections_share_a_run(tmp_path: Path, counted: Callable[[], int]) -> None:
    command = count(tmp_path, seconds=0.2)
    found = await asyncio.gather(*(passwords().get(command, 10) for _ in range(5)))
    assert ({password.text for password in found}, counted()) == ({"1"}, 1)


@pytest.mark.parametrize(("ttl", "runs"), [(None, 3), (600.0, 1), (0.000001, 3)])
async def test_program_is_run_for_each_connection_unless_its_password_is_valid(
    tmp_path: Path, counted: Callable[[], int], ttl: float | None, runs: int
) -> None:
    for _ in range(3):
        await passwords().get(count(tmp_path, ttl), 10)
    assert counted() == runs


async def test_refused_password_is_not_used_again(tmp_path: Path, counted: Callable[[], int]) -> None:
    command = count(tmp_path, 600)
    await passwords().get(command, 10)
    passwords().forget(command)
    assert ((await passwords().get(command, 10)).text, counted()) == ("2", 2)


async def test_slow_program_serves_the_next_connection(tmp_path: Path, counted: Callable[[], int]) -> None:
    """A program that is slower than a scrape would otherwise be started again by each, in vain."""
    command = count(tmp_path, seconds=0.5)
    with pytest.raises(TimeoutError, match=r"printed no password in 0\.1 s"):
        await passwords().get(command, 0.1)
    assert ((await passwords().get(command, 10)).text, counted()) == ("1", 1)
    assert ((await passwords().get(command, 10)).text, counted()) == ("2", 2)


async def test_few_programs_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    limited = Passwords()
    running = tmp_path / "running"
    running.mkdir()
    commands = [
        shell(f"touch {running}/{i}; ls {running} | wc -l | tr -d ' '; sleep 0.1; rm {running}/{i}") for i in range(6)
    ]
    found = await asyncio.gather(*(limited.get(command, 20) for command in commands))
    assert max(int(password.text) for password in found) <= 2
    assert os.listdir(running) == []  # noqa: PTH208 - there is nothing else to see
