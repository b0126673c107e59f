"""
The keys of pgslot.yml: what each is for, its type and its default.

loader.py accepts these keys and no others; the configuration reference is generated from them.
"""

from dataclasses import dataclass

from pgslot.config.model import IDLE_IN_TRANSACTION_FOR, PATRONI_INTERVAL, HealerSettings

_DEFAULTS = HealerSettings()
_FIRST_RELEASE = "0.1.0"


@dataclass(frozen=True, slots=True)
class Key:
    """One key of a section."""

    name: str
    type: str
    """What the value is, with its unit, as the reference prints it."""
    default: str
    """As it would stand in the file, or `required`, or what applies without it."""
    meaning: str
    since: str = _FIRST_RELEASE
    """The first release that knows the key."""


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping of the file."""

    path: str
    """Dotted, with names in capitals for what the user chooses."""
    meaning: str
    keys: tuple[Key, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its keys, in the order in which an error lists them."""
        return tuple(key.name for key in self.keys)


def duration(seconds: float) -> str:
    """Return seconds as a duration in the file's notation, in the largest unit that divides them."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


_CONNINFO = Key(
    "conninfo",
    "string",
    "required, or `conninfo_file`",
    "libpq's connection string: `key=value` pairs or a URI. `service=`, `passfile=`, `sslmode=verify-full` and several"
    " hosts work.",
)
_CONNINFO_FILE = Key(
    "conninfo_file",
    "file name",
    "required, or `conninfo`",
    "A file that contains the connection string. It is read at every connection, so a rotated secret takes effect.",
)
_PASSWORD_COMMAND = Key(
    "password_command",
    "list of strings",
    "none",
    "A program and its arguments, run without a shell. The first line that it prints is the password, such as a token"
    " of a cloud's identity service. The program may take 30 s, and nothing that it prints is logged.",
)
_PASSWORD_TTL = Key(
    "password_ttl",
    "duration",
    "none: the program is run for each connection",
    "How long a password of `password_command` is valid. It serves all connections for 80 % of this time. Then a kept"
    " connection is replaced by a new one; if there is none, the old one serves on.",
)
_WAL_VOLUME = Key(
    "wal_volume",
    "size",
    "none: unknown",
    "The room that WAL may take on the node: the size of a volume that holds nothing but WAL, or the part of a shared"
    " volume that is left to WAL. The units are PostgreSQL's: `kB`, `MB`, `GB` and `TB`, with a factor of 1024.",
)
_WAL_VOLUME_LABELS = Key(
    "wal_volume_labels",
    "mapping",
    "none: unknown",
    "The labels under which Prometheus has the free bytes of the volume that holds the node's WAL directory.",
)
_ENABLED = Key(
    "enabled", "boolean", "`true`", "`false` stops all calls for this cluster at once, also those of running episodes."
)
_DISABLED_REASON = Key(
    "disabled_reason",
    "string",
    "empty",
    "Why it is switched off: one line of at most 200 characters. The metrics, the log and the status page show it.",
)

TOP = Section(
    "",
    "The whole file. Relative file names are relative to the file that names them.",
    (
        Key(
            "clusters",
            "mapping",
            "required, or `include`",
            "The clusters by name. The name is the value of the label `cluster`.",
        ),
        Key(
            "include",
            "list of file names",
            "none",
            "Further files that contain `clusters`, for example `clusters/*.yml`. A cluster may be in one file only.",
        ),
        Key("healer", "mapping", "the defaults below", "How often the healer acts, and how it reaches Alertmanager."),
    ),
)
CLUSTER = Section(
    "clusters.CLUSTER",
    "One primary and its standbys. List the nodes, or let Patroni list them.",
    (
        Key(
            "nodes",
            "mapping",
            "required, or `patroni`",
            "The servers by name. The name is the value of the label `node`.",
        ),
        Key(
            "patroni",
            "list of URLs, or mapping",
            "required, or `nodes`",
            "Patroni's REST API, which lists the members.",
        ),
        Key(
            "conninfo",
            "string",
            "with `patroni`: required, or `conninfo_file`",
            "The connection string of every member that Patroni lists, without host and port.",
        ),
        Key(
            "conninfo_file",
            "file name",
            "with `patroni`: required, or `conninfo`",
            "A file that contains the connection string of every member, without host and port.",
        ),
        Key("password_command", "list of strings", "none", "With `patroni`: prints the password for every member."),
        Key(
            "password_ttl",
            "duration",
            "none: the program is run for each connection",
            "With `patroni`: how long a password of `password_command` is valid.",
        ),
        Key(
            "healer",
            "mapping",
            "none: the cluster is only observed",
            "Whether and how the healer acts on this cluster.",
        ),
        Key("wal_volume", "size", "none: unknown", "`wal_volume` of every node that does not have its own."),
        Key(
            "wal_volume_labels",
            "mapping",
            "none: unknown",
            "`wal_volume_labels` of every node that does not have its own.",
        ),
    ),
)
NODE = Section(
    "clusters.CLUSTER.nodes.NODE",
    "One server, as the exporter's role reaches it.",
    (_CONNINFO, _CONNINFO_FILE, _PASSWORD_COMMAND, _PASSWORD_TTL, _WAL_VOLUME, _WAL_VOLUME_LABELS),
)
WAL_VOLUME_LABELS = Section(
    "clusters.CLUSTER.nodes.NODE.wal_volume_labels",
    "Either the two labels of node_exporter's `node_filesystem_*`, or those of the kubelet's `kubelet_volume_stats_*`."
    " In each value `{node}` stands for the name of the node.",
    (
        Key("instance", "string", "with `mountpoint`", "node_exporter's label, for example `db1:9100`."),
        Key("mountpoint", "string", "with `instance`", "node_exporter's label, for example `/pgdata`."),
        Key("namespace", "string", "with `persistentvolumeclaim`", "The kubelet's label."),
        Key(
            "persistentvolumeclaim",
            "string",
            "with `namespace`",
            "The kubelet's label, for example `pgdata-{node}`.",
        ),
    ),
)
PATRONI = Section(
    "clusters.CLUSTER.patroni",
    "Patroni's REST API. A list of URLs is short for a mapping with `urls` alone.",
    (
        Key(
            "urls",
            "list of URLs",
            "required",
            "Base URLs of the members, at most 20. The programs ask the first that answers.",
        ),
        Key(
            "scope", "string", "any", "The cluster's name in Patroni. The programs refuse an answer for another scope."
        ),
        Key(
            "interval",
            "duration",
            f"`{duration(PATRONI_INTERVAL)}`",
            "Time between two requests for the list of members.",
        ),
        Key("ca_file", "file name", "the system's authorities", "The certificate authorities for https."),
        Key("cert_file", "file name", "none", "The client certificate, if Patroni requires one. It needs `key_file`."),
        Key("key_file", "file name", "none", "The key of the client certificate."),
    ),
)
HEALER = Section(
    "clusters.CLUSTER.healer",
    "Whether and how the healer acts on this cluster. The connection must lead to the primary.",
    (
        _CONNINFO,
        _CONNINFO_FILE,
        _PASSWORD_COMMAND,
        _PASSWORD_TTL,
        _ENABLED,
        _DISABLED_REASON,
        Key("dry_run", "boolean", "`false`", "`true`: the healer only logs and reports what it would do."),
        Key(
            "fallback",
            "`none` or `emit_message`",
            "`none`",
            "What to do where `pg_log_standby_snapshot()` cannot be called. `emit_message` writes a message by"
            " `pg_logical_emit_message()`, after which the server logs the record on its own within about 25 s.",
        ),
        Key(
            "end_transactions",
            "mapping",
            "none: the healer never ends a transaction",
            "A third role, and which idle transactions it may end when they block a slot.",
        ),
    ),
)
END_TRANSACTIONS = Section(
    "clusters.CLUSTER.healer.end_transactions",
    "Which transactions the healer may end. A session has to match every list that is given.",
    (
        _CONNINFO,
        _CONNINFO_FILE,
        _PASSWORD_COMMAND,
        _PASSWORD_TTL,
        Key("dry_run", "boolean", "`true`", "`true`: the healer only reports which session it would end."),
        Key(
            "idle_in_transaction_for",
            "duration",
            f"`{duration(IDLE_IN_TRANSACTION_FOR)}`",
            "How long the session must have been idle in its transaction, by `pg_stat_activity.state_change`.",
        ),
        Key("users", "list of strings", "required, or `applications`", "Users, as whole names."),
        Key("applications", "list of strings", "required, or `users`", "Values of `application_name`, as whole names."),
        Key("databases", "list of strings", "any", "Databases, as whole names."),
        Key(
            "at_most_per_hour",
            "number of sessions",
            "`1`",
            "The most sessions that all healers together end on this cluster in an hour.",
        ),
    ),
)
SETTINGS = Section(
    "healer",
    "How often the healer acts, for all clusters, and how it and Alertmanager communicate.",
    (
        Key(
            "burst_interval",
            "duration",
            f"`{duration(_DEFAULTS.burst_interval)}`",
            "Time between the first calls of an episode.",
        ),
        Key("interval", "duration", f"`{duration(_DEFAULTS.interval)}`", "Time between later calls."),
        Key(
            "give_up_after",
            "duration",
            f"`{duration(_DEFAULTS.give_up_after)}`",
            "How long the healer tries for one slot.",
        ),
        Key("burst_calls", "number of calls", f"`{_DEFAULTS.burst_calls}`", "How many calls come at `burst_interval`."),
        Key("calls_per_episode", "number of calls", f"`{_DEFAULTS.calls_per_episode}`", "The most calls for one slot."),
        Key(
            "calls_per_hour",
            "number of calls",
            f"`{_DEFAULTS.calls_per_hour}`",
            "The most calls on one cluster in an hour.",
        ),
        Key(
            "clusters_at_once",
            "number of clusters",
            f"`{_DEFAULTS.clusters_at_once}`",
            "On how many clusters the healer acts at the same time. If more need help at once, a missing record is"
            " hardly the cause.",
        ),
        Key(
            "alertmanager_url",
            "URL",
            "none",
            "Base URL of Alertmanager. With it the healer honours silences, and picks up alerts after a restart or a"
            " lost webhook, and alerts that ended and fired again between two webhooks.",
        ),
        Key(
            "webhook_token_file",
            "file name",
            "none: webhooks are accepted on loopback only",
            "A file that contains the token that Alertmanager has to send.",
        ),
        Key(
            "enabled",
            "boolean",
            "`true`",
            "`false` stops all calls for all clusters at once, also those of running episodes.",
        ),
        _DISABLED_REASON,
    ),
)
SECTIONS = (TOP, CLUSTER, NODE, WAL_VOLUME_LABELS, PATRONI, HEALER, END_TRANSACTIONS, SETTINGS)
