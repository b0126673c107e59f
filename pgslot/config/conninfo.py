"""Connection strings: from the configuration, or completed with a host that Patroni lists."""

import re
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path

from psycopg import ProgrammingError, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgslot.cli.errors import ConfigError
from pgslot.config.password_command import PasswordCommand, read_password_command
from pgslot.config.secret_files import read_secret
from pgslot.config.yaml_values import Value

CONNINFO = "libpq's key=value pairs or a URI"
ENDPOINT_OPTIONS = ("host", "hostaddr", "port", "target_session_attrs")
"""Options that say where to connect to, not as whom."""


@dataclass(slots=True, eq=False)
class MemberAddresses:
    """
    A cluster's servers, by Patroni's last answer.

    One mutable object for discovery, which updates it, and the Conninfos that refer to it, which read it at every
    connection.
    """

    addresses: tuple[tuple[str, int], ...] = ()
    """Host and port of every server."""

    def primary(self, text: str) -> str:
        """Return a connection string that finds the primary. Raises ConfigError while there are no addresses."""
        if not self.addresses:
            raise ConfigError("expected the members that Patroni lists, found none: it has not answered yet")
        hosts, ports = zip(*self.addresses, strict=True)
        session_attrs = conninfo_to_dict(text).get("target_session_attrs", "read-write")
        return make_conninfo(
            text, host=",".join(hosts), port=",".join(map(str, ports)), target_session_attrs=str(session_attrs)
        )


@dataclass(frozen=True, slots=True)
class Conninfo:
    """A connection string, or the file that has it. Never shown: it may hold a password."""

    text: str = field(repr=False)
    file: Path | None = None
    """Read at every connection, so that a rotated secret takes effect; `text` is empty then."""
    endpoint: tuple[str, int] | None = None
    """Host and port, where the text does not have them."""
    members: MemberAddresses | None = field(default=None, repr=False)
    """Hosts for a text without one. None: libpq's default host."""
    password: PasswordCommand | None = None
    """Prints the password, which is then in neither text nor file. None: libpq finds it, if one is needed."""
    place: str = field(default="", compare=False, repr=False)
    """File, line and key of `conninfo_file`, for errors."""
    source: Path | None = field(default=None, compare=False, repr=False)
    """The configuration file that has `text`. None: the command line."""

    def read(self) -> str:
        """
        Return libpq's connection string.

        Raises ConfigError if the file cannot be read or has no connection string, or while there are no members.
        """
        text = self.configured_text()
        if self.endpoint is not None:
            host, port = self.endpoint
            return make_conninfo(text, host=host, port=port)
        if self.members is not None and not {"host", "hostaddr", "service"} & conninfo_to_dict(text).keys():
            return self.members.primary(text)
        return text

    def configured_text(self) -> str:
        """Return the string without endpoint and members. Raises ConfigError for the file, as read() does."""
        if self.file is None:
            return self.text
        text = read_secret(self.place, self.file, "a conninfo")
        if (fault := conninfo_fault(text)) is not None:
            raise ConfigError(f"{self.place or self.file}: expected {CONNINFO} in {self.file}, found {fault}")
        if self.endpoint is not None and (given := _endpoint_options_in(text)):
            expected = f"expected a conninfo without {_ENDPOINT_OPTIONS}, which Patroni reports, in {self.file}"
            raise ConfigError(f"{self.place or self.file}: {expected}; found {given}")
        return text

    def at(self, host: str, port: int) -> "Conninfo":
        """Return the same for the server at this endpoint."""
        return replace(self, endpoint=(host, port))


_ENDPOINT_OPTIONS = f"{', '.join(ENDPOINT_OPTIONS[:-1])} and {ENDPOINT_OPTIONS[-1]}"


def read_conninfo(parent: Value, keys: dict[str, Value], *, without_endpoint: bool = False) -> Conninfo:
    """
    Return the conninfo or conninfo_file of a section. Raises ConfigError.

    `without_endpoint`: host and port must not be in it, because Patroni lists them.
    """
    if ("conninfo" in keys) == ("conninfo_file" in keys):
        found = "both" if "conninfo" in keys else "neither"
        raise parent.error("exactly one of conninfo and conninfo_file", found)
    password = read_password_command(keys)
    if "conninfo_file" in keys:
        return Conninfo("", keys["conninfo_file"].path(), password=password, place=keys["conninfo_file"].place)
    text = keys["conninfo"].string(CONNINFO)
    if (fault := conninfo_fault(text)) is not None:
        raise keys["conninfo"].error(CONNINFO, fault)
    if without_endpoint and (given := _endpoint_options_in(text)):
        raise keys["conninfo"].error(f"a conninfo without {_ENDPOINT_OPTIONS}, which Patroni reports", given)
    if password is not None and "password" in conninfo_to_dict(text):
        raise keys["password_command"].error("one place for the password", "a password in conninfo, too")
    return Conninfo(text, password=password, source=Path(parent.file))


def conninfo_fault(text: str) -> str | None:
    """
    Return why libpq cannot parse it, without any part of the text that may belong to a password; None: it can.

    Of libpq's own message only an option is passed on that is nearly an option of libpq: the rest of a password that
    is not quoted reads as options as well.
    """
    try:
        conninfo_to_dict(text)
    except UnicodeDecodeError:
        return _FAULTS["invalid percent-encoded token"]
    except ProgrammingError as error:
        message = str(error)
    else:
        return None
    unknown = re.match(r'invalid (?:connection option|URI query parameter:) "(.*)"', message)
    if unknown is not None:
        options = [option.keyword.decode() for option in pq.Conninfo.get_defaults()]
        close = get_close_matches(unknown[1], options, 1)
        return f'the option "{unknown[1]}"; libpq has "{close[0]}"' if close else _UNKNOWN_OPTION
    for start, fault in _FAULTS.items():
        if message.startswith(start):
            return fault
    return "text that libpq cannot parse (not shown: secrets)"


_UNKNOWN_OPTION = "an option that libpq does not have (not shown: secrets; a value with spaces needs single quotes)"
_FAULTS = {
    'missing "="': 'a word without "=" (not shown: secrets; a value with spaces needs single quotes)',
    "unterminated quoted string": "a single quote that is not closed (a quote in a value is written \\')",
    "invalid percent-encoded token": "a % in the URI that does not encode UTF-8 text (a plain % is written %25)",
}
"""What libpq's messages mean, by their beginning."""


def _endpoint_options_in(text: str) -> str:
    return ", ".join(name for name in ENDPOINT_OPTIONS if name in conninfo_to_dict(text))
