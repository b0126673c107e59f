"""The doctor shows the settings that the running healer applies, and where they differ from its file."""

from dataclasses import replace

import pytest

from healer.doctor.checks.healer import HealerSamples, judge_in_force
from healer.doctor.result import CheckStatus
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerConfig, HealerSettings, TerminationConfig
from tests.support.blocking_transactions import POLICY
from tests.support.fakes.monitoring import FakeMonitoring, settings_samples

TERMINATION = TerminationConfig(Conninfo("user=ender"), POLICY)
PLAIN = HealerConfig(Conninfo("user=healer"), enabled=True, dry_run=False)
ARMED = replace(PLAIN, termination=TERMINATION)
DRY = replace(ARMED, termination=replace(TERMINATION, policy=replace(POLICY, dry_run=True)))
WIDER = replace(ARMED, termination=replace(TERMINATION, policy=replace(POLICY, users=("billing", "batch"))))


def config(healer: HealerConfig | None) -> Config:
    return Config((Cluster("orders", (), healer),), HealerSettings())


ENABLED = "enabled: true, dry_run: false"
RULE = "policy: users: [billing], applications: [importer], idle_in_transaction_for: 0.05s, at_most_per_hour: 1000"
DIFFERENCES: dict[str, tuple[HealerConfig, HealerConfig | None, dict[str, tuple[str, str]]]] = {
    "the same": (ARMED, ARMED, {}),
    "a kill switch that was not reloaded": (
        ARMED,
        replace(ARMED, enabled=False),
        {
            "orders, end_transaction": (f"{ENABLED}, {RULE}", f"enabled: false, dry_run: false, {RULE}"),
            "orders, log_standby_snapshot": (ENABLED, "enabled: false, dry_run: false"),
        },
    ),
    "a dry run in the file, and an armed healer": (
        ARMED,
        DRY,
        {"orders, end_transaction": (f"{ENABLED}, {RULE}", f"enabled: true, dry_run: true, {RULE}")},
    ),
    "a section that was removed from the file": (
        ARMED,
        PLAIN,
        {"orders, end_transaction": (f"{ENABLED}, {RULE}", "no such remedy")},
    ),
    "a section that the running healer does not have yet": (
        PLAIN,
        ARMED,
        {"orders, end_transaction": ("no such remedy", f"{ENABLED}, {RULE}")},
    ),
    "other users": (
        ARMED,
        WIDER,
        {"orders, end_transaction": (f"{ENABLED}, {RULE}", f"{ENABLED}, {RULE.replace('billing', 'billing, batch')}")},
    ),
    "a cluster that was removed from the file": (
        PLAIN,
        None,
        {"orders, log_standby_snapshot": (ENABLED, "no such remedy")},
    ),
}


@pytest.mark.parametrize(("running", "in_file", "expected"), DIFFERENCES.values(), ids=DIFFERENCES.keys())
def test_difference_between_the_running_healer_and_the_file_is_a_warning_that_names_both(
    running: HealerConfig, in_file: HealerConfig | None, expected: dict[str, tuple[str, str]]
) -> None:
    metrics = HealerSamples(settings_samples(config(running)))
    findings = list(judge_in_force("http://healer", config(in_file), metrics))
    if not expected:
        [same] = findings
        assert same.status is CheckStatus.OK
        assert f"orders, end_transaction: {ENABLED}, {RULE}" in same.found
        return
    assert {finding.subject: finding.found for finding in findings} == {
        subject: f"the running healer has {there}; this file has {here}" for subject, (there, here) in expected.items()
    }
    assert {finding.status for finding in findings} == {CheckStatus.WARNING}


def test_healer_of_an_earlier_version_is_said_not_to_show_its_settings() -> None:
    [finding] = judge_in_force("http://healer", config(PLAIN), HealerSamples(()))
    assert finding.status is CheckStatus.SKIPPED


def test_kill_switch_in_the_file_alone_is_reported_by_the_whole_check(monitoring: FakeMonitoring) -> None:
    monitoring.running = monitoring.config
    [cluster] = monitoring.config.clusters
    assert cluster.healer is not None
    off = replace(cluster, healer=replace(cluster.healer, enabled=False))
    monitoring.config = replace(monitoring.config, clusters=(off,))
    [finding] = [finding for finding in monitoring.examine() if finding.check == "in force"]
    assert "the running healer has enabled: true" in finding.found
