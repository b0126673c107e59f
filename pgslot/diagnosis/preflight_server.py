"""Whether the server, the user and the plugin allow a logical slot: pure functions."""

from collections.abc import Iterator

from pgslot.diagnosis.preflight_model import Line, Observation, Status
from pgslot.diagnosis.wal_level import SINCE_MAJOR
from pgslot.postgres.login_advice import login_advice
from pgslot.postgres.replication_login import LoginOutcome
from pgslot.postgres.types import quote_identifier
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.preflight_rows import PreflightLibrary, PreflightServer
from pgslot.snapshot.rows import NodeFacts

STANDBYS_SINCE_MAJOR = 16
"""The first major version whose standbys can have logical slots."""

KNOWN_PLUGINS = ("pgoutput", "test_decoding", "wal2json", "decoderbufs", "pglogical_output", "pglogical")
"""Libraries that certainly are output plugins; only loading another one would show whether it is."""
_REPACK_PLUGIN = "pgrepack"


def server_lines(
    observed: Observation, node: NodeSnapshot, facts: NodeFacts, server: PreflightServer
) -> Iterator[Line]:
    """Yield the lines about what a creation needs to work at all."""
    yield _role(observed, facts)
    if facts.in_recovery and facts.major < STANDBYS_SINCE_MAJOR:
        return
    yield _wal_level(observed.node, facts)
    if facts.in_recovery and facts.major < SINCE_MAJOR:
        # Later effective_wal_level covers the primary's, which the standby learns from its WAL.
        yield _wal_level_above(observed, node, server)
    yield _slots(observed, node, facts)
    yield _wal_senders(observed.node, server, in_recovery=facts.in_recovery)
    yield _database(server, observed.node)
    yield _user(server)
    if _user_is_fine(server) and server.database_connectable and server.user_may_connect:
        yield _login(observed, server)
    yield _plugin(observed, server)
    if observed.request.slot is not None:
        yield _name(observed, node, observed.request.slot)


def _role(observed: Observation, facts: NodeFacts) -> Line:
    if not facts.in_recovery:
        return Line("server", Status.OK, f"{observed.node} is a primary with PostgreSQL {facts.version}")
    if facts.major < STANDBYS_SINCE_MAJOR:
        text = (
            f"{observed.node} is a standby with PostgreSQL {facts.version}; before 16 only a primary has logical slots"
        )
        return Line("server", Status.FAIL, f"{text}: create the slot on the primary")
    return Line("server", Status.OK, f"{observed.node} is a standby with PostgreSQL {facts.version}")


def _wal_level(node: str, facts: NodeFacts) -> Line:
    if facts.effective_wal_level == "logical":
        return Line("wal_level", Status.OK, "WAL can be decoded: wal_level is logical")
    if facts.major >= SINCE_MAJOR and facts.wal_level == "replica":
        if not facts.in_recovery:
            text = "wal_level is replica, which is enough from 19 on: the first logical slot makes it logical"
            return Line("wal_level", Status.OK, text)
        text = (
            "the primary has no logical slot, and with wal_level = replica its WAL can be decoded only while it has one"
        )
        create = "SELECT pg_catalog.pg_create_logical_replication_slot('keeps_decoding', 'pgoutput');"
        return Line("wal_level", Status.FAIL, text, (create,), "the primary")
    text = f"wal_level is {facts.wal_level}, and a logical slot needs logical"
    return Line("wal_level", Status.FAIL, text, ("ALTER SYSTEM SET wal_level = 'logical';", _RESTART), node)


_RESTART = "$ restart PostgreSQL"


def _wal_level_above(observed: Observation, node: NodeSnapshot, server: PreflightServer) -> Line:
    primary = observed.cluster.primary
    if primary is not None and primary.facts is not None:
        level = primary.facts.effective_wal_level
        if level == "logical":
            return Line("primary's wal_level", Status.OK, f"wal_level is logical on {primary.node}, the primary")
        fix = ("ALTER SYSTEM SET wal_level = 'logical';", _RESTART)
        return Line("primary's wal_level", Status.FAIL, f"wal_level is {level} on {primary.node}", fix, primary.node)
    if any(slot.slot_type == "logical" and not slot.invalidated for slot in node.slots or ()):
        return Line("primary's wal_level", Status.OK, "wal_level is logical on the primary: logical slots live here")
    where = f" It streams from {server.upstream}." if server.upstream else ""
    text = f"the primary did not answer, and a standby does not show it.{where} Add the primary's host to --conninfo"
    return Line("primary's wal_level", Status.UNKNOWN, text)


def _slots(observed: Observation, node: NodeSnapshot, facts: NodeFacts) -> Line:
    free = facts.max_replication_slots - facts.replication_slots
    beside = " (slots of REPACK have places of their own)" if facts.major >= SINCE_MAJOR else ""
    if free > 0:
        text = f"{free} of {facts.max_replication_slots} replication slots are free{beside}"
        return Line("replication slots", Status.OK, text)
    unused = [slot.slot_name for slot in node.slots or () if not slot.active and not slot.synced]
    drop = f", or drop one that nothing needs (not in use: {', '.join(unused[:5])})" if unused else ""
    text = f"all {facts.max_replication_slots} replication slots exist{beside}. Raise the limit{drop}"
    fix = (f"ALTER SYSTEM SET max_replication_slots = {facts.max_replication_slots + 10};", _RESTART)
    return Line("replication slots", Status.FAIL, text, fix, observed.node)


def _wal_senders(node: str, server: PreflightServer, *, in_recovery: bool) -> Line:
    free = server.max_wal_senders - server.wal_senders
    if free > 0:
        return Line("WAL senders", Status.OK, f"{free} of {server.max_wal_senders} WAL senders are free")
    text = f"all {server.max_wal_senders} WAL senders run: no consumer can connect for replication"
    if not in_recovery:
        text += ". Raise the limit on standbys first: with a lower one than the primary's they stop"
    fix = (f"ALTER SYSTEM SET max_wal_senders = {server.max_wal_senders + 10};", _RESTART)
    return Line("WAL senders", Status.FAIL, text, fix, node)


def _database(server: PreflightServer, node: str) -> Line:
    database = quote_identifier(server.datname)
    if server.database_connectable is None:
        return Line("database", Status.FAIL, f"database {database} does not exist on {node}")
    if not server.database_connectable:
        fix = (f"ALTER DATABASE {database} WITH ALLOW_CONNECTIONS true;",)
        return Line("database", Status.FAIL, f"database {database} takes no connections", fix, "the primary")
    if server.user_may_connect is False:
        fix = (f"GRANT CONNECT ON DATABASE {database} TO {quote_identifier(server.usename)};",)
        text = f"{server.usename} may not connect to database {database}"
        return Line("database", Status.FAIL, text, fix, "the primary")
    return Line("database", Status.OK, f"database {database} exists and takes connections")


def _user(server: PreflightServer) -> Line:
    user = quote_identifier(server.usename)
    if not server.user_exists:
        fix = (f"CREATE ROLE {user} LOGIN REPLICATION;", f"\\password {user}")
        return Line("user", Status.FAIL, f"role {user} does not exist", fix, "the primary")
    if not server.user_may_login:
        return Line("user", Status.FAIL, f"role {user} may not log in", (f"ALTER ROLE {user} LOGIN;",), "the primary")
    if server.user_replicates:
        return Line("user", Status.OK, f"{server.usename} has REPLICATION")
    if server.user_in_rds_replication:
        return Line("user", Status.OK, f"{server.usename} is a member of rds_replication")
    grant = f"GRANT rds_replication TO {user};" if server.has_rds_replication else f"ALTER ROLE {user} REPLICATION;"
    text = f"{server.usename} does not have REPLICATION, without which it cannot create or use a slot"
    return Line("user", Status.FAIL, text, (grant,), "the primary")


def _user_is_fine(server: PreflightServer) -> bool:
    return bool(server.user_may_login and (server.user_replicates or server.user_in_rds_replication))


def _login(observed: Observation, server: PreflightServer) -> Line:
    login, user, database = observed.facts.login, server.usename, server.datname
    if login.outcome is LoginOutcome.ADMITTED:
        text = f"the server let {user} in for replication from {database} (from this machine)"
        return Line("pg_hba.conf", Status.OK, text)
    if login.outcome is LoginOutcome.NOT_TRIED:
        return Line("pg_hba.conf", Status.UNKNOWN, f"no replication connection of {user} was tried")
    if login.outcome is LoginOutcome.PASSWORD:
        own = user == server.session_user
        if not own:
            text = (
                f"it asks {user} for a password, and no line of the passfile has it: whether it lets {user} in is open"
            )
            return Line("pg_hba.conf", Status.UNKNOWN, text)
    if login.outcome is LoginOutcome.UNREACHABLE:
        return Line("pg_hba.conf", Status.UNKNOWN, f"a replication connection of {user} got no answer: {login.error}")
    if "too many" in login.error or "max_wal_senders" in login.error:
        return Line("pg_hba.conf", Status.UNKNOWN, f"the server had no room for a connection of {user}: {login.error}")
    text = f"the server refused a replication connection of {user} to {database}: {_server_message(login.error)}"
    return Line("pg_hba.conf", Status.FAIL, f"{text}. {login_advice(login.error)}")


def _server_message(error: str) -> str:
    """Return the last message of libpq's text, without the addresses before it."""
    return error.rpartition(" failed: ")[2]


def _plugin(observed: Observation, server: PreflightServer) -> Line:
    plugin, library = observed.request.plugin, observed.facts.library
    if plugin == _REPACK_PLUGIN:
        return Line("plugin", Status.FAIL, f"{plugin} is the plugin of REPACK alone: take pgoutput")
    if plugin == "pgoutput":
        return Line("plugin", Status.OK, "pgoutput is part of PostgreSQL")
    if server.plugin_in_use:
        return Line("plugin", Status.OK, f"{plugin} is there: a slot of this server has it")
    if isinstance(library, PreflightLibrary):
        if library.found and plugin in KNOWN_PLUGINS:
            return Line("plugin", Status.OK, f"{plugin} is installed in {library.folder}")
        if library.found:
            text = f"{library.folder} has a library {plugin}; only loading it would show whether it is a plugin"
            return Line("plugin", Status.UNKNOWN, text)
        if library.only_folder:
            text = f"{library.folder} does not have {plugin}: install the package of the plugin there, or take pgoutput"
            return Line("plugin", Status.FAIL, text)
        text = f"{library.folder} does not have {plugin}, but dynamic_library_path names other folders as well"
        return Line("plugin", Status.UNKNOWN, text)
    text = f"our role cannot see whether {plugin} is installed; if it is not, the creation fails at once"
    look = f"$ ls $(pg_config --pkglibdir)/{plugin}.*"
    return Line("plugin", Status.UNKNOWN, text, (look,), observed.node)


def _name(observed: Observation, node: NodeSnapshot, name: str) -> Line:
    if node.slots is None:
        return Line("slot name", Status.UNKNOWN, "the slots that exist could not be read")
    slot = node.slot(name)
    if slot is None:
        return Line("slot name", Status.OK, f"{name} is free")
    if slot.active:
        return Line("slot name", Status.FAIL, f"slot {name} exists, and is in use: choose another name")
    text = f"slot {name} exists: choose another name, or drop it if nothing needs it"
    fix = (f"SELECT pg_catalog.pg_drop_replication_slot('{name}');",)
    return Line("slot name", Status.FAIL, text, fix, observed.node)
