"""`password_command`: a program that prints the password, such as the token of a cloud's identity service."""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from pgslot.cli.errors import ConfigError
from pgslot.config.yaml_values import Value

_EXPECTED = "a list of the program and its arguments, each a string; no shell runs it"


@dataclass(frozen=True, slots=True)
class PasswordCommand:
    """A program and its arguments, run without a shell; the first line of its output is the password."""

    arguments: tuple[str, ...] = field(repr=False)
    """The program first. Never shown but for the program: an argument may be a secret."""
    ttl: float | None = None
    """Seconds for which one password serves. None: the program is run for each connection."""
    place: str = field(default="", compare=False, repr=False)
    """File, line and key, for errors."""

    @property
    def program(self) -> str:
        """The name of the program, for messages."""
        return self.arguments[0]

    def error(self, expected: str, found: str) -> ConfigError:
        """Return an error at the key's place."""
        return ConfigError(f"{self.place or 'password_command'}: expected {expected}, found {found}")

    def check(self) -> None:
        """Raise ConfigError if there is no such program, or it may not be run. It is not run."""
        if shutil.which(self.program) is None:
            there = os.sep in self.program and Path(self.program).exists()
            found = f"{self.program}, which may not be run" if there else f"no program {self.program}"
            raise self.error("a program that can be run", found)


def read_password_command(keys: dict[str, Value]) -> PasswordCommand | None:
    """Return the `password_command` of a section with its `password_ttl`; None: there is none. Raises ConfigError."""
    if "password_command" not in keys:
        if "password_ttl" in keys:
            raise keys["password_ttl"].error("password_ttl beside password_command", "it alone")
        return None
    value = keys["password_command"]
    arguments = [item.string("a string, in quotes if it reads as something else") for item in value.items(_EXPECTED)]
    if not arguments[0] or any("\0" in argument for argument in arguments):
        raise value.error(_EXPECTED, "an empty name of the program" if not arguments[0] else "a zero byte")
    if os.sep in arguments[0]:
        # As all file names of the configuration. A name without a slash is looked up in PATH.
        arguments[0] = str(Path(value.file).parent.absolute() / arguments[0])
    ttl = keys["password_ttl"].duration() if "password_ttl" in keys else None
    return PasswordCommand(tuple(arguments), ttl, value.place)
