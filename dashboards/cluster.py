"""The drill-down: one cluster, its servers and its slots."""

from grafana_foundation_sdk.builders import dashboard, stat, table
from grafana_foundation_sdk.models import common as common_model

from dashboards import healing, risk, survival
from dashboards.cluster_causes import retained, transactions
from dashboards.frame import Panels, board, one, several, with_rows
from dashboards.panels import BAD_FROM_ONE, Column, counts, lines, marked, query, rows, runbooks, single
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
            "Whether the healer could call pg_log_standby_snapshot() for this cluster, and if not, why. Healthy: "
            "ready. act. Bad: any reason; disabled is somebody's decision. No healer: none is scraped, or this cluster "
            "is not in its configuration. Next: the runbook has the remedy for each reason."
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
            f"{of_slot('pgslot_retention_cause', CLUSTER, by='cause')} == 1",
            headroom(CLUSTER),
            f"{time_left(CLUSTER)} < {7 * IN_SIGHT}",
        )
        .height(8)
        .description(
            "Every slot with what PostgreSQL and the diagnosis say of it now. Healthy: in use, reserved or extended, "
            "no 'in creation', nothing that holds its WAL. An empty cell is an unknown, or does not apply: headroom "
            "needs a limit, 'lost in' a headroom that shrinks. Bad: red. Next: 'waits for' and 'held by' are explained "
            "in the rows below; click on a slot to see it alone."
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
            "How long each slot has been in creation. Healthy: no line at all. Bad: a line that climbs past the dashed "
            "ones (the alerts, 30 s and 60 s); it ends when the slot is usable, or its client gave up. Next: the "
            "reason beside it."
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
            "Waiting creations of this cluster, by reason. Healthy: nothing. Bad: any that stays. Next, for "
            "running_xacts: a standby needs a record from its primary, and the healer sees to it; transaction: "
            "somebody has to end the blocker below; replay_paused, wal_receiver_down, replay_lag, recovery_conflict, "
            "replay_delayed: replay on that standby has to move first, see the servers below; archived_segment: the "
            "next segment from the archive; unknown: the runbook of PgSlotCreationStuck."
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
                Column("pid", "Pid", width=90),
                Column("datname", "Database"),
                Column("usename", "User"),
                Column("application_name", "Application"),
                Column("state", "State"),
                Column("Value", "Open for", "s", [(None, "orange"), (CREATION_BLOCKED, "red")]),
            ],
            of_slot("pgslot_creation_blocker_age_seconds", CLUSTER, by=who),
        )
        .height(5)
        .description(
            "The oldest transaction that a creation waits for; its database may be another than the slot's. Healthy: "
            "empty. Bad: 'idle in transaction' that nobody works in, or prepared (its gid is under application). "
            "Next: the runbook of PgSlotCreationBlocked says how to end it. When it ends, the next one may follow."
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
            "The servers of the cluster. A creation on a standby goes on only where WAL is received and replayed. "
            "Healthy: seen; on a standby receives WAL, not paused, a small lag. Bad: red, two primaries, or all slots "
            "in use (a new one is refused). Next: the standby's log; pg_wal_replay_resume() if somebody paused it."
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
                "Questions to the servers that failed",
                "none",
                query(f"sum by (node, status) ({failed}) > 0", "{{node}}: {{status}}"),
            ),
            {},
        )
        .description(
            "Questions of the exporter to a server that had no answer, by what went wrong. Healthy: nothing. Bad: any; "
            "what it would have told is missing on this page. Next, permission_denied: grant pg_monitor; timeout: the "
            "server is overloaded or locked; unreachable: host or network; login_failed: password, role, "
            "pg_hba.conf; wrong_cluster: it is a server of another cluster; error: the exporter's log."
        )
        .links(runbooks("PgSlotTargetDown", "PgSlotProbeFailing"))
    )
    yield (
        lines(
            602,
            "Time to look at a server",
            "s",
            query(of_node("pgslot_scrape_duration_seconds", CLUSTER), "{{node}}"),
        )
        .min(0)
        .description(
            "How long the exporter took to ask each server. Healthy: milliseconds. Bad: near the scrape timeout; then "
            "gaps follow. Next: what else the server does at that time."
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
            "Standbys that stream from the primary and are none of the configuration's nodes. Healthy: 0. Bad: any; "
            "their slots are nowhere on this page, and the healer does not know them. No line: a node that is "
            "configured does not answer, and may be the one. Next: pg-slot-healer doctor names them."
        )
        .links(runbooks("PgSlotUnlistedStandby"))
    )


def build() -> dashboard.Dashboard:
    made = board(
        "pgslot-cluster",
        "PostgreSQL replication slots: one cluster",
        "Which slot waits or holds back WAL, why, because of whom, and what the healer did.",
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
        (300, "Why is WAL held back, and how long will it last?", retained()),
        (400, "Who keeps a transaction open?", transactions()),
        (500, "What did the healer do?", healed()),
        (600, "Is anything missing on this page?", doubted()),
        (700, survival.QUESTION, survival.of_one()),
    )
