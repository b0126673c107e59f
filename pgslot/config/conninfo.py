"""How to reach a server, in libpq's words: as the configuration has it, or with the host that Patroni tells."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgslot.cli.errors import ConfigError
from pgslot.config.yaml_values import Value

CONNINFO = "libpq's key=value pairs or a URI"
ENDPOINT_OPTIONS = ("host", "hostaddr", "port", "target_session_attrs")
"""What says where, and not who."""


@dataclass(slots=True, eq=False)
class MemberAddresses:
    """Where a cluster's servers are, as last told: one object that changes, which whoever connects reads anew."""

    addresses: tuple[tuple[str, int], ...] = ()
    """Host and port of each."""

    def primary(self, text: str) -> str:
        """Return a connection string that leads to whichever of them is the primary. Raises ConfigError for none."""
        if not self.addresses:
            raise ConfigError("expected the members of Patroni, found that it has not told of any yet")
        hosts, ports = zip(*self.addresses, strict=True)
        wanted = conninfo_to_dict(text).get("target_session_attrs", "read-write")
        return make_conninfo(
            text, host=",".join(hosts), port=",".join(map(str, ports)), target_session_attrs=str(wanted)
        )


@dataclass(frozen=True, slots=True)
class Conninfo:
    """How to reach a server; never shown, because it may hold a password."""

    text: str = field(repr=False)
    file: Path | None = None
    """Read anew at each connection, so that a rotated secret is picked up; `text` is empty then."""
    endpoint: tuple[str, int] | None = None
    """Host and port, where the text says only who connects, and how."""
    members: MemberAddresses | None = field(default=None, repr=False)
    """Where a text without a host leads to, if not to libpq's default."""

    def read(self) -> str:
        """
        Return libpq's connection string.

        Raises ConfigError when the file cannot be read or holds no connection string, or nobody knows a host.
        """
        text = self.configured_text()
        if self.endpoint is not None:
            host, port = self.endpoint
            return make_conninfo(text, host=host, port=port)
        if self.members is not None and not {"host", "hostaddr", "service"} & conninfo_to_dict(text).keys():
            return self.members.primary(text)
        return text

    def configured_text(self) -> str:
        """Return what the configuration says, without the place. Raises ConfigError as read() does for a file."""
        if self.file is None:
            return self.text
        try:
            text = self.file.read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{self.file}: expected a readable file with a conninfo, found: {error}") from None
        if not is_conninfo(text):
            raise ConfigError(f"{self.file}: expected {CONNINFO}, found text that is neither")
        if self.endpoint is not None and (found := _places_in(text)):
            raise ConfigError(f"{self.file}: expected a conninfo without {_OR}, which Patroni tells; found {found}")
        return text

    def at(self, host: str, port: int) -> "Conninfo":
        """Return the same for a server there."""
        return replace(self, endpoint=(host, port))


_OR = f"{', '.join(ENDPOINT_OPTIONS[:-1])} and {ENDPOINT_OPTIONS[-1]}"


def read_conninfo(parent: Value, keys: dict[str, Value], *, without_place: bool = False) -> Conninfo:
    """Return what `conninfo` or `conninfo_file` of a section says. `without_place`: where to is told by others."""
    if ("conninfo" in keys) == ("conninfo_file" in keys):
        found = "both" if "conninfo" in keys else "neither"
        raise parent.error("exactly one of conninfo and conninfo_file", found)
    if "conninfo_file" in keys:
        return Conninfo("", keys["conninfo_file"].path())
    text = keys["conninfo"].string(CONNINFO)
    if not is_conninfo(text):
        raise keys["conninfo"].error(CONNINFO, "text that is neither (not shown: secrets)")
    if without_place and (places := _places_in(text)):
        raise keys["conninfo"].error(f"a conninfo without {_OR}, which Patroni tells", places)
    return Conninfo(text)


def is_conninfo(text: str) -> bool:
    """Return whether libpq can parse it."""
    # libpq's own message is not passed on: for a badly quoted password it quotes a part of the password.
    try:
        conninfo_to_dict(text)
    except ProgrammingError:
        return False
    return True


def _places_in(text: str) -> str:
    return ", ".join(name for name in ENDPOINT_OPTIONS if name in conninfo_to_dict(text))
