"""
Makes pgslot.json: `python -m dashboards.generate`, and `--check` to see whether it is in step.

A panel says in its description what it shows, what is healthy, what is bad, and what to do next.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as model

from dashboards.panels import DATASOURCE, Steps, counts, lines, marked, query, rows, single, stacked

FILE = Path(__file__).with_name("pgslot.json")
CLUSTER = 'cluster=~"$cluster"'
NODE = f'{CLUSTER},node=~"$node"'
SLOT = f'{NODE},slot_name=~"$slot_name"'


def stuck() -> Iterable[stat.Panel]:
    zero_or_bad: Steps = [(None, "green"), (1, "red")]
    yield single(
        "Slot creations waiting",
        "short",
        f"sum(pgslot_creations_waiting{{{NODE}}})",
        [(None, "green"), (1, "orange")],
        none="no data",
    ).description(
        "Logical slots that are being created right now. Healthy: 0, or 1 for a moment; a creation takes milliseconds. "
        "Bad: anything that stays. Next: the row below says why it waits. No data: the exporter is not scraped."
    )
    yield single(
        "Longest creation wait",
        "s",
        f"max(pgslot_creation_wait_seconds{{{SLOT}}}) or 0 * sum(pgslot_creations_waiting{{{NODE}}})",
        [(None, "green"), (30, "orange"), (60, "red")],
        none="no data",
    ).description(
        "How long the oldest creation has waited; 0 when none waits. Healthy: below a second. Bad: from 30 s on, where "
        "PgSlotCreationStuck fires. Next: Creation wait reason, below."
    )
    yield single(
        "Smallest headroom",
        "bytes",
        f"min(pgslot_safe_wal_size_bytes{{{SLOT}}})",
        [(None, "red"), (1, "orange"), (268435456, "green")],
        none="no limit, or lost",
    ).description(
        "WAL that can still be written before the first slot is lost. Healthy: hours of your write rate. Bad: below 0 "
        "the slot goes with the next checkpoint. No value: max_slot_wal_keep_size is -1 (then the disk is the limit), "
        "or the slots are lost already: see Slots lost. Next: Retention cause."
    )
    yield single(
        "Slots lost",
        "short",
        f'sum(pgslot_wal_status{{{SLOT},wal_status="lost"}})',
        zero_or_bad,
        none="no slots",
    ).description(
        "Slots that PostgreSQL has invalidated: their WAL is gone. Healthy: 0. Bad: any; the consumer needs a new slot "
        "and a new copy of its data. Next: drop the slot once the consumer's owner knows; Retention cause shows what "
        "led there."
    )
    yield single(
        "Nodes down",
        "short",
        f"sum(1 - pgslot_up{{{NODE}}})",
        zero_or_bad,
        none="no data",
    ).description(
        "Servers that the exporter can not reach; it knows nothing of their slots. Healthy: 0. Bad: any. Next: the "
        "exporter's log names the error; pgslot_probe_status has it as a label."
    )
    yield single(
        "Heal capability unavailable",
        "short",
        f'sum(max by (cluster, reason) (pgslot_heal_capability_unavailable{{{CLUSTER},reason!="disabled"}}))',
        zero_or_bad,
        none="no healer",
    ).description(
        "Clusters where the healer could not help, known before it is needed. Healthy: 0. Bad: any; "
        "PgSlotHealUnavailable names the reason. Next: its runbook has the remedy for each. No healer: none is "
        "scraped, or it has no cluster of this choice."
    )


def why() -> Iterable[timeseries.Panel | table.Panel]:
    yield marked(
        lines(
            "Creation wait",
            "s",
            query(f"pgslot_creation_wait_seconds{{{SLOT}}}", "{{cluster}}/{{node}} {{slot_name}}"),
        ).min(0),
        [(None, "green"), (30, "orange"), (60, "red")],
    ).description(
        "How long each slot has been in creation. Healthy: no line at all. Bad: a line that climbs past the dashed "
        "ones (the alerts, 30 s and 60 s). Next: the reason beside it."
    )
    yield counts(
        lines(
            "Creation wait reason",
            "short",
            query(f"sum by (reason) (pgslot_creation_wait_reason{{{SLOT}}}) > 0", "{{reason}}"),
        )
    ).description(
        "What the waiting creations wait for. Healthy: nothing. Bad: any reason that stays. Next, for running_xacts: a "
        "standby needs a record from its primary, and the healer sees to it; transaction: somebody has to end the "
        "blocker below; replay_paused, wal_receiver_down, replay_lag, recovery_conflict: replay on that standby has to "
        "move first; unknown: the runbook of PgSlotCreationStuck."
    )
    yield rows(
        "Oldest blocker of each waiting creation",
        "s",
        f"pgslot_creation_blocker_age_seconds{{{SLOT}}}",
        {
            "cluster": "Cluster",
            "node": "Node",
            "slot_name": "Slot",
            "database": "Slot's database",
            "kind": "Kind",
            "pid": "Pid",
            "datname": "Database",
            "usename": "User",
            "application_name": "Application",
            "state": "State",
            "Value": "Open for",
        },
    ).description(
        "The oldest transaction that a creation waits for; its database may be another than the slot's. Healthy: "
        "empty. Bad: a row with 'idle in transaction' that nobody works in. Next: the runbook of PgSlotCreationBlocked "
        "says how to end it. When it ends, the next one may follow."
    )


def retained() -> Iterable[timeseries.Panel]:
    yield stacked(
        lines(
            "Retained WAL: unconfirmed and pinned",
            "bytes",
            query(f"pgslot_unconfirmed_wal_bytes{{{SLOT}}}", "{{node}} {{slot_name}} unconfirmed"),
            query(f"pgslot_pinned_wal_bytes{{{SLOT}}}", "{{node}} {{slot_name}} pinned"),
            span=24,
        ).min(0)
    ).description(
        "WAL that a slot holds back. Unconfirmed is the consumer's part: it has not acknowledged it. Pinned is "
        "acknowledged but still needed, for an open transaction, or for lack of a running-xacts record. Healthy: saw "
        "teeth that come down. Bad: a steady climb. Next: Retention cause says whose it is; Headroom says how long "
        "there is."
    )
    yield marked(
        lines(
            "Headroom until the slot is lost",
            "bytes",
            query(f"pgslot_safe_wal_size_bytes{{{SLOT}}}", "{{cluster}}/{{node}} {{slot_name}}"),
        ),
        [(None, "red"), (0, "green")],
    ).description(
        "safe_wal_size: WAL that can still be written before the slot is lost. Healthy: flat. Bad: falling towards the "
        "dashed line at 0, below which the next checkpoint removes its WAL. Lines that end: lost, or no limit is set. "
        "Next: Retention cause; raising max_slot_wal_keep_size needs a reload only, and buys time if the disk has it."
    )
    yield counts(
        lines(
            "Retention cause",
            "short",
            query(f"sum by (cause) (pgslot_retention_cause{{{SLOT}}}) > 0", "{{cause}}"),
        )
    ).description(
        "Slots by what holds their WAL. consumer: it is slow. inactive: it is away. transaction: an open one pins it, "
        "see the row below. stalled: nothing pins it, a record is missing. creation: it is being made. invalidated: it "
        "is lost. Healthy: nothing, or consumer for a while. Bad: any cause while the WAL above climbs. Next: wake the "
        "consumer, or end the transaction below, or drop a slot that nobody will use again."
    )


def transactions() -> Iterable[timeseries.Panel | table.Panel]:
    yield marked(
        lines(
            "Oldest transaction by kind",
            "s",
            query(
                f"max by (cluster, node, kind) (pgslot_oldest_transaction_age_seconds{{{NODE}}})",
                "{{cluster}}/{{node}} {{kind}}",
            ),
            span=24,
        ).min(0),
        [(None, "green"), (900, "orange")],
    ).description(
        "Age of the oldest transaction. xid and prepared block slot creation and pin slots, in whatever database they "
        "are; snapshot (read only) does neither; idle_in_transaction is one that nobody works in. Healthy: minutes at "
        "most. Bad: xid or prepared beyond the dashed 15 minutes. Next: the table below names it."
    )
    yield rows(
        "Oldest transaction of each kind",
        "s",
        f"pgslot_oldest_transaction_info{{{NODE}}}"
        " * on (job, instance, cluster, node, kind) group_left ()"
        f" pgslot_oldest_transaction_age_seconds{{{NODE}}}",
        {
            "cluster": "Cluster",
            "node": "Node",
            "kind": "Kind",
            "pid": "Pid",
            "datname": "Database",
            "usename": "User",
            "application_name": "Application",
            "state": "State",
            "Value": "Open for",
        },
    ).description(
        "Who holds the oldest transaction of each kind. Healthy: young ones that change. Bad: the same row for many "
        "minutes. Next: ask its owner; pg_terminate_backend(pid) rolls its work back, ROLLBACK PREPARED ends a "
        "prepared one."
    )


def healed() -> Iterable[stat.Panel | timeseries.Panel]:
    yield (
        single(
            "Last call",
            "dateTimeFromNow",
            f"1000 * (max(pgslot_heal_last_call_timestamp_seconds{{{CLUSTER}}}) > 0)",
            [(None, "text")],
            none="never",
        )
        .span(6)
        .height(8)
        .description(
            "When the healer last called pg_log_standby_snapshot(). Healthy: any time, or never. Bad: long ago while a "
            "creation waits for running_xacts. Next: Heal capability unavailable, at the top; the healer's page shows "
            "its episodes."
        )
    )
    yield (
        single(
            "Time to heal, 9 of 10 within",
            "s",
            "histogram_quantile(0.9, sum by (le) (increase(pgslot_heal_seconds_bucket[$__range]))) >= 0",
            [(None, "green"), (15, "orange")],
            none="none in this time",
        )
        .span(6)
        .height(8)
        .description(
            "From the healer's first call to its effect, over the whole time range and all clusters (heals are too "
            "rare for a line). Healthy: a few seconds. Bad: above 15 s the background writer would have done as well. "
            "Next: Calls by result."
        )
    )
    yield counts(
        lines(
            "Heal episodes by outcome",
            "short",
            query(
                f"sum by (outcome) (increase(pgslot_heal_episodes_total{{{CLUSTER}}}[$__rate_interval])) > 0",
                "{{outcome}}",
            ),
            span=6,
        )
    ).description(
        "What became of each attempt. Healthy: few; healed or resolved_itself. Bad: no_effect, gave_up, unavailable, "
        "error. Next: the healer's page or /episodes has each with its reason."
    )
    yield counts(
        lines(
            "Calls by result",
            "short",
            query(
                f"sum by (result) (increase(pgslot_heal_calls_total{{{CLUSTER}}}[$__rate_interval])) > 0",
                "{{result}}",
            ),
            span=6,
        )
    ).description(
        "Calls of pg_log_standby_snapshot() by what came back. Healthy: a handful per episode, all of them successful. "
        "Bad: errors, or calls for many minutes without an episode ending as healed: then a transaction blocks it. "
        "Next: Creation wait reason."
    )


def choice(name: str, label: str, values: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .query(values)
        .datasource(DATASOURCE)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(model.VariableOption(selected=True, text=["All"], value=["$__all"]))
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )


def build() -> model.Dashboard:
    board = (
        dashboard.Dashboard("PostgreSQL replication slots")
        .uid("pgslot")
        .description("Which slot waits or holds back WAL, why, because of whom, and what the healer did.")
        .tags(["pgslot", "postgresql", "replication"])
        .readonly()
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .refresh("30s")
        .time("now-6h", "now")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(choice("cluster", "Cluster", "label_values(pgslot_up, cluster)"))
        .with_variable(choice("node", "Node", f"label_values(pgslot_up{{{CLUSTER}}}, node)"))
        .with_variable(choice("slot_name", "Slot", f"label_values(pgslot_slot_info{{{NODE}}}, slot_name)"))
    )
    for title, panels in (
        ("Is anything stuck or about to be lost?", stuck()),
        ("Why?", why()),
        ("Retained WAL", retained()),
        ("Long transactions", transactions()),
        ("What did the healer do?", healed()),
    ):
        board.with_row(dashboard.Row(title))
        for panel in panels:
            board.with_panel(panel)
    return numbered(board.build())


def numbered(board: model.Dashboard) -> model.Dashboard:
    """Links to a panel need an id that stays; the SDK sets none."""
    for number, panel in enumerate(board.panels or [], start=1):
        panel.id_val = number
    return board


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes pgslot.json.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if the file is out of step")
    parser.add_argument("file", nargs="?", type=Path, default=FILE, help="default: pgslot.json beside this program")
    options = parser.parse_args()
    wanted = json.dumps(build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
    if not options.check:
        options.file.write_text(wanted, encoding="utf-8")
    elif not options.file.exists() or options.file.read_text(encoding="utf-8") != wanted:
        print(f"{options.file.name} is out of step with generate.py: run make dashboards", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
