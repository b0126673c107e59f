"""The drill-down: one cluster, its servers and its slots."""

from grafana_foundation_sdk.builders import dashboard, stat, table
from grafana_foundation_sdk.models import common as common_model

from dashboards import healing, risk, survival
from dashboards.cluster_causes import retained, transactions, volume
from dashboards.frame import Panels, board, one, several, with_rows
from dashboards.panels import (
    BAD_FROM_ONE,
    SESSION_COLUMNS,
    Column,
    counts,
    lines,
    marked,
    query,
    rows,
    runbooks,
    single,
)
from dashboards.terms import (
    CAUSES,
    CLUSTER,
    CREATION_BLOCKED,
    CREATION_STUCK,
    IN_SIGHT,
    LITTLE_HEADROOM,
    NO_YES,
    REASONS,
    SOON,
    WAL_STATUS,
    YES_NO,
    as_names,
    headroom,
    of_cluster,
    of_node,
    of_slot,
    time_left,
)


def stuck() -> Panels:
    yield from risk.numbers(CLUSTER)
    yield healer()
    yield healing.running(108, CLUSTER)
    yield slots()
    yield risk.alerts(110, CLUSTER)


def healer() -> stat.Panel:
    able = of_cluster("pgslot_heal_capability_unavailable", CLUSTER)
    why_not = of_cluster("pgslot_heal_capability_unavailable", CLUSTER, by="reason")
    return (
        single(
            107,
            "The healer",
            "none",
            f'{why_not} == 1 or on (cluster) label_replace({able}, "reason", "ready", "", "")',
            BAD_FROM_ONE,
            none="no healer",
            legend="{{reason}}",
        )
        .text_mode(common_model.BigValueTextMode.NAME)
        .description(
            "Whether the healer could call pg_log_standby_snapshot() for this cluster and, if not, why. "
            "Healthy: ready. Bad: any reason, except disabled, which is somebody's decision. No healer: "
            "Prometheus scrapes no healer, or its configuration does not have this cluster. Next: the runbook "
            "has the fix for each reason."
        )
        .links(runbooks("PgSlotHealUnavailable", "PgSlotHealerDown"))
    )


def slots() -> table.Panel:
    this = "/d/pgslot-cluster?var-datasource=${datasource}&var-cluster=${cluster}&${__url_time_range}"
    return (
        rows(
            109,
            "Slots",
            [
                Column("node", "Node"),
                Column(
                    "slot_name",
                    "Slot",
                    link=(
                        "Only this slot",
                        f"{this}&var-node=${{__data.fields.Node}}&var-slot=${{__value.raw}}",
                    ),
                ),
                Column("slot_type", "Type", width=80),
                Column("Value #B", "In use", names=YES_NO, width=70),
                Column(
                    "Value #C",
                    "In creation for",
                    "s",
                    [(None, "green"), (CREATION_STUCK, "orange"), (CREATION_BLOCKED, "red")],
                ),
                Column("reason", "Waits for", names=as_names(REASONS)),
                Column("wal_status", "WAL status", names=WAL_STATUS),
                Column("Value #F", "Retained WAL", "bytes"),
                Column("cause", "Held by", names=as_names(CAUSES)),
                Column(
                    "Value #H", "Headroom", "percentunit", [(None, "red"), (LITTLE_HEADROOM, "orange"), (0.5, "green")]
                ),
                Column("Value #I", "Lost in", "s", [(None, "red"), (SOON, "orange"), (IN_SIGHT, "green")]),
            ],
            of_slot("pgslot_slot_info", CLUSTER, by="slot_type"),
            of_slot("pgslot_active", CLUSTER),
            of_slot("pgslot_creation_wait_seconds", CLUSTER),
            f"{of_slot('pgslot_creation_wait_reason', CLUSTER, by='reason')} == 1",
            f"{of_slot('pgslot_wal_status', CLUSTER, by='wal_status')} == 1",
            of_slot("pgslot_retained_wal_bytes", CLUSTER),
            of_slot("slot:pgslot_retention_cause:max", CLUSTER, by="cause"),
            headroom(CLUSTER),
            f"{time_left(CLUSTER)} < {7 * IN_SIGHT}",
        )
        .height(8)
        .description(
            "Every slot, with what PostgreSQL and the diagnosis show now. Healthy: in use, reserved or "
            "extended, nothing under 'in creation' and nothing that retains its WAL. An empty cell is unknown "
            "or does not apply: headroom needs a limit, and 'lost in' needs a headroom that shrinks. Bad: red. "
            "Next: the rows below explain 'waits for' and 'held by'; click on a slot to see only that slot."
        )
        .links(runbooks("PgSlotCreationStuck", "PgSlotInactive", "PgSlotLost"))
    )


def waits() -> Panels:
    yield (
        marked(
            lines(
                201,
                "Creation wait",
                "s",
                query(of_slot("pgslot_creation_wait_seconds", CLUSTER), "{{slot_name}} on {{node}}"),
            ).min(0),
            [(None, "green"), (CREATION_STUCK, "orange"), (CREATION_BLOCKED, "red")],
        )
        .description(
            "How long each slot has been in creation. Healthy: no line. Bad: a line that climbs past the dashed "
            "lines (the alerts, 30 s and 60 s). A line ends when the slot is usable, or when its client has "
            "given up. Next: the reason, in the panel beside this one."
        )
        .links(runbooks("PgSlotCreationStuck", "PgSlotCreationBlocked"))
    )
    yield (
        counts(
            lines(
                202,
                "Waiting creations, by what they wait for",
                "none",
                query(
                    f"sum by (reason) ({of_slot('pgslot_creation_wait_reason', CLUSTER, by='reason')}) > 0",
                    "{{reason}}",
                ),
            ),
            REASONS,
        )
        .description(
            "Waiting creations of this cluster, by reason. Healthy: none. Bad: any that stays. Next: "
            "running_xacts: a standby needs a record from its primary, which the healer requests. transaction: "
            "somebody must end the blocker below. replay_paused, wal_receiver_down, replay_lag, "
            "recovery_conflict, replay_delayed: replay on that standby must advance first, see the servers "
            "below. archived_segment: it waits for the next segment from the archive. unknown: see the runbook "
            "of PgSlotCreationStuck."
        )
        .links(runbooks("PgSlotCreationStuck", "PgSlotCreationBlocked"))
    )
    who = "backend_type, pid, datname, usename, application_name, state"
    yield (
        rows(
            203,
            "Oldest blocker of each waiting creation",
            [
                Column("node", "Node"),
                Column("slot_name", "Slot"),
                Column("backend_type", "Blocked by", width=130),
                *SESSION_COLUMNS,
                Column("Value", "Open for", "s", [(None, "orange"), (CREATION_BLOCKED, "red")]),
            ],
            of_slot("pgslot_creation_blocker_age_seconds", CLUSTER, by=who),
        )
        .height(5)
        .description(
            "The oldest transaction that a creation waits for; it may be in another database than the slot. "
            "Healthy: empty. Bad: an 'idle in transaction' session that nobody works in, or a prepared "
            "transaction (its gid is under application). Next: the runbook of PgSlotCreationBlocked shows how "
            "to end it. When it ends, the next blocker may appear."
        )
        .links(runbooks("PgSlotCreationBlocked", "PgSlotPreparedTransactionForgotten"))
    )
    used = of_node("pgslot_replication_slots", CLUSTER)
    yield (
        rows(
            204,
            "Servers",
            [
                Column("node", "Node"),
                Column("role", "Role", names={"primary": ("primary", "blue"), "standby": ("standby", "purple")}),
                Column("version", "PostgreSQL"),
                Column("Value #B", "Seen", names=YES_NO),
                Column("Value #C", "Receives WAL", names=YES_NO),
                Column("Value #D", "Replay paused", names=NO_YES),
                Column("Value #E", "Replay lag", "bytes"),
                Column("Value #F", "Slots in use", "percentunit", [(None, "green"), (0.8, "orange"), (1, "red")]),
            ],
            of_node("pgslot_node_info", CLUSTER, by="role, version"),
            of_node("pgslot_up", CLUSTER),
            of_node("pgslot_wal_receiver_streaming", CLUSTER),
            of_node("pgslot_wal_replay_paused", CLUSTER),
            of_node("pgslot_wal_replay_lag_bytes", CLUSTER),
            f"{used} / ({of_node('pgslot_max_replication_slots', CLUSTER)} > 0)",
        )
        .height(5)
        .description(
            "The servers of the cluster. A creation on a standby continues only where the standby receives and "
            "replays WAL. Healthy: every server is seen; a standby receives WAL, is not paused, and lags "
            "little. Bad: red, two primaries, or all slots in use (the server then refuses a new slot). Next: "
            "the standby's log; pg_wal_replay_resume() if somebody paused it."
        )
        .links(runbooks("PgSlotTargetDown", "PgSlotCreationStuck"))
    )


def healed() -> Panels:
    yield healing.last_call(501, CLUSTER, span=6)
    yield healing.seconds(502, span=6)
    yield healing.last_webhook(503, span=6)
    yield healing.alertmanager(504, span=6)
    yield healing.outcomes(505, CLUSTER, span=12)
    yield healing.calls(506, CLUSTER, span=12)
    yield healing.calls_left(507, CLUSTER, span=12)
    yield healing.refusals(508, CLUSTER, span=12)


def doubted() -> Panels:
    failed = of_node("pgslot_probe_status", CLUSTER, 'status!="ok"', by="probe, status")
    yield (
        counts(
            lines(
                601,
                "Failed queries to the servers",
                "none",
                query(f"sum by (node, status) ({failed}) > 0", "{{node}}: {{status}}"),
            ),
            {},
        )
        .description(
            "Queries of the exporter that a server did not answer, by status. Healthy: none. Bad: any; this "
            "page lacks their values. Next: permission_denied: grant pg_read_all_stats and "
            "pg_read_all_settings. timeout: the server is overloaded or locked. unreachable: check host and "
            "network. login_failed: check password, role and pg_hba.conf. wrong_cluster: the server belongs to "
            "another cluster. error: read the exporter's log."
        )
        .links(runbooks("PgSlotTargetDown", "PgSlotLoginFailed", "PgSlotProbeFailing"))
    )
    yield (
        lines(
            602,
            "Time to query a server",
            "s",
            query(of_node("pgslot_scrape_duration_seconds", CLUSTER), "{{node}}"),
        )
        .min(0)
        .description(
            "How long the exporter took to query each server. Healthy: milliseconds. Bad: close to the scrape "
            "timeout; scrapes then fail. Next: find out what else the server does at that time."
        )
        .links(runbooks("PgSlotTargetDown", "PgSlotExporterDown"))
    )
    yield (
        lines(
            603,
            "Standbys that are not configured",
            "none",
            query(of_node("pgslot_unlisted_standbys", CLUSTER), "{{node}}"),
        )
        .decimals(0)
        .min(0)
        .span(24)
        .height(5)
        .description(
            "Standbys that stream from the primary but are not in the configuration. Healthy: 0. Bad: any; this "
            "page does not show their slots, and the healer ignores them. No line: a configured node does not "
            "answer, and may be one of them. Next: pg-slot-healer doctor names them."
        )
        .links(runbooks("PgSlotUnlistedStandby"))
    )


def build() -> dashboard.Dashboard:
    made = board(
        "pgslot-cluster",
        "PostgreSQL replication slots: one cluster",
        "Which slot waits or retains WAL, why, who blocks it, and what the healer did.",
        scope=CLUSTER,
        choices=[
            one("cluster", "Cluster", "label_values(pgslot_up, cluster)"),
            several("node", "Node", f"label_values(pgslot_up{{{CLUSTER.cluster}}}, node)"),
            several("slot", "Slot", f"label_values(pgslot_slot_info{{{CLUSTER.node}}}, slot_name)"),
        ],
        other=("All clusters", "pgslot-fleet"),
    )
    return with_rows(
        made,
        (100, "Is anything stuck or about to be lost?", stuck()),
        (200, "Why does a creation wait?", waits()),
        (300, "Why is WAL retained, and how long can that go on?", [*retained(), *volume()]),
        (400, "Who keeps a transaction open?", transactions()),
        (500, "What did the healer do?", healed()),
        (600, "Is anything missing on this page?", doubted()),
        (700, survival.QUESTION, survival.of_one()),
    )
