"""Connection strings: from the configuration, or completed with a host that Patroni lists."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgslot.cli.errors import ConfigError
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
            raise ConfigError("expected the members of Patroni, found that it has not told of any yet")
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
        try:
            text = self.file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.file}: expected a readable file with a conninfo, found: {error}") from None
        if not is_conninfo(text):
            raise ConfigError(f"{self.file}: expected {CONNINFO}, found text that is neither")
        if self.endpoint is not None and (given := _endpoint_options_in(text)):
            expected = f"expected a conninfo without {_ENDPOINT_OPTIONS}, which Patroni tells"
            raise ConfigError(f"{self.file}: {expected}; found {given}")
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
    if "conninfo_file" in keys:
        return Conninfo("", keys["conninfo_file"].path())
    text = keys["conninfo"].string(CONNINFO)
    if not is_conninfo(text):
        raise keys["conninfo"].error(CONNINFO, "text that is neither (not shown: secrets)")
    if without_endpoint and (given := _endpoint_options_in(text)):
        raise keys["conninfo"].error(f"a conninfo without {_ENDPOINT_OPTIONS}, which Patroni tells", given)
    return Conninfo(text)


def is_conninfo(text: str) -> bool:
    """Return whether libpq can parse it."""
    # libpq's own message is not passed on: it quotes part of a badly quoted password.
    try:
        conninfo_to_dict(text)
    except ProgrammingError:
        return False
    return True


def _endpoint_options_in(text: str) -> str:
    return ", ".join(name for name in ENDPOINT_OPTIONS if name in conninfo_to_dict(text))
