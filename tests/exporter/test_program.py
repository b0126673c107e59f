"""The exporter as a process, operated as its users do: probes, discovery, reload, signals, pages, flags."""

import re
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import requests
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.catalogue import CATALOGUE
from exporter.metrics_reference import metric_reference
from tests.support import in_process
from tests.support.paths import ROOT
from tests.support.servers.monitoring import Server
from tests.support.servers.processes import Process, free_port, wait_for
from tests.support.servers.programs import EXPORTER_PROGRAM, Program
from tests.support.servers.stack import EXPORTER_ROLE, Stack


def nodes(stack: Stack) -> dict[str, Any]:
    return {server.name: {"conninfo": server.conninfo(EXPORTER_ROLE)} for server in (stack.primary, stack.standby)}


def write(file: Path, clusters: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump({"clusters": clusters}))


@pytest.fixture
def exporter(databases: Stack, tmp_path: Path) -> Iterator[Program]:
    file = tmp_path / "pgslot.yml"
    write(file, {"c": {"nodes": nodes(databases)}})
    program = Program("pg-slot-exporter", file, tmp_path)
    program.process.arguments.append("--web.enable-lifecycle")
    program.start()
    yield program
    program.stop()


def test_scrape_goes_on_with_nodes_down_when_descriptors_run_out(databases: Stack, tmp_path: Path) -> None:
    file = tmp_path / "pgslot.yml"
    write(file, {"c": {"nodes": {f"n{i}": nodes(databases)["primary"] for i in range(60)}}})
    program = Program("pg-slot-exporter", file, tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))
    try:
        program.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        with requests.Session() as kept:
            # Connected while there are files: a connection needs one as well.
            kept.get(f"{program.url}/-/healthy", timeout=30)
            answer = kept.get(f"{program.url}/metrics", timeout=30)
    finally:
        program.stop()
    assert answer.status_code == 200, answer.text
    up = [sample.value for f in parse_text(answer.text) for sample in f.samples if sample.name == "pgslot_up"]
    assert (len(up), 0 < sum(up) < 60) == (60, True)


def test_probe_shows_one_node(exporter: Program) -> None:
    samples = [s for f in parse_text(exporter.get("/probe?cluster=c&node=standby").text) for s in f.samples]
    assert {sample.labels["node"] for sample in samples} == {"standby"}
    assert [sample.value for sample in samples if sample.name == "pgslot_up"] == [1]
    assert all(sample.name.startswith("pgslot_") for sample in samples)


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ("", 400, "expected the parameters cluster and node, found no cluster"),
        ("?cluster=c", 400, "found no node"),
        ("?cluster=c&node=", 400, "found no node"),
        ("?cluster=c&node=other", 404, "no such cluster and node"),
        ("?cluster=x&node=standby", 404, "no such cluster and node"),
        ("?cluster=host%3Devil&node=standby", 404, "no such cluster and node"),
    ],
)
def test_probe_without_a_known_node_is_refused(exporter: Program, query: str, status: int, text: str) -> None:
    answer = exporter.get(f"/probe{query}")
    assert (answer.status_code, text in answer.text) == (status, True)


def test_probe_of_a_standby_names_the_blocker_on_its_primary(exporter: Program, databases: Stack) -> None:
    with databases.primary.hold_transaction(application_name="far away") as holder:
        with databases.standby.create_slot_by_function("probed"):

            def blocker() -> list[dict[str, str]]:
                families = parse_text(exporter.get("/probe?cluster=c&node=standby").text)
                samples = [s for family in families for s in family.samples]
                assert {sample.labels["node"] for sample in samples} == {"standby"}
                return [s.labels for s in samples if s.name == "pgslot_creation_blocker_age_seconds"]

            [found] = wait_for(blocker, "the blocker is found")
        assert (found["pid"], found["application_name"]) == (str(holder.pid), "far away")


def test_prometheus_discovers_and_scrapes_all_nodes(exporter: Program, tmp_path: Path) -> None:
    config = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
        "scrape_configs": [
            {"job_name": "pgslot", "http_sd_configs": [{"url": f"{exporter.url}/sd"}]},
            # As shipped, for a target that has labels of its own by our names.
            {
                "job_name": "shipped",
                "honor_labels": True,
                "static_configs": [
                    {"targets": [f"127.0.0.1:{exporter.port}"], "labels": {"cluster": "k8s-eu", "node": "worker-1"}}
                ],
            },
        ],
    }
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    process = Process(
        [
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        tmp_path / "prometheus.log",
    )
    prometheus = Server(process, port)
    try:
        prometheus.start()

        def up(job: str = "pgslot") -> set[str]:
            query = f'pgslot_up{{job="{job}"}} == 1 and on (instance) up == 1'
            result = prometheus.get("/api/v1/query", query=query)["data"]["result"]
            return {f"{series['metric']['instance']} {series['metric']['node']}" for series in result}

        wait_for(lambda: up() == {"c/primary primary", "c/standby standby"}, "both nodes are scraped")
        here = f"127.0.0.1:{exporter.port}"
        wait_for(
            lambda: up("shipped") == {f"{here} primary", f"{here} standby"}, "a target's own labels do not hide ours"
        )
    finally:
        prometheus.stop()


@pytest.mark.parametrize("how", ["SIGHUP", "POST"])
def test_reload_takes_a_valid_file_and_ignores_an_invalid_one(
    exporter: Program, databases: Stack, tmp_path: Path, how: str
) -> None:
    def reload() -> int | None:
        if how == "POST":
            return requests.post(f"{exporter.url}/-/reload", timeout=10).status_code
        exporter.process.send(signal.SIGHUP)
        return None

    def backend() -> list[tuple[Any, ...]]:
        return databases.primary.sql("SELECT pid FROM pg_stat_activity WHERE usename = %s", [EXPORTER_ROLE])

    file = tmp_path / "pgslot.yml"
    assert exporter.value("pgslot_config_last_reload_successful") == 1
    kept = backend()
    file.write_text("clusters: {c: {nodes: {}}}")
    assert reload() in (500, None)
    wait_for(lambda: exporter.value("pgslot_config_last_reload_successful") == 0, "the bad file is noticed")
    assert len(exporter.samples("pgslot_up")) == 2
    errors = [line["error"] for line in exporter.log_events() if line["level"] == "error"]
    assert errors == [f"{file}:1: clusters.c.nodes: expected at least one node, found an empty mapping"]
    write(file, {"c": {"nodes": {"primary": nodes(databases)["primary"]}}})
    assert reload() in (200, None)
    wait_for(lambda: exporter.value("pgslot_config_last_reload_successful") == 1, "the good file is loaded")
    assert [sample.labels["node"] for sample in exporter.samples("pgslot_up")] == ["primary"]
    assert backend() == kept
    wait_for(
        lambda: not databases.standby.sql("SELECT 1 FROM pg_stat_activity WHERE usename = %s", [EXPORTER_ROLE]),
        "the connection of the node that has left is closed",
    )


def test_reload_over_http_has_to_be_enabled(databases: Stack, tmp_path: Path) -> None:
    write(tmp_path / "pgslot.yml", {"c": {"nodes": nodes(databases)}})
    program = Program("pg-slot-exporter", tmp_path / "pgslot.yml", tmp_path)
    try:
        program.start()
        assert requests.post(f"{program.url}/-/reload", timeout=10).status_code == 403
        assert program.get("/-/reload").status_code == 405
    finally:
        program.stop()


def test_sigterm_ends_the_program_in_order_even_with_a_hung_server(exporter: Program, databases: Stack) -> None:
    exporter.get("/metrics")
    databases.standby.pause_all()
    try:
        assert exporter.process.stop(timeout=12) == 0
    finally:
        databases.standby.resume_all()
    assert [line["msg"] for line in exporter.log_events()][-1] == "stopping"


@pytest.mark.servers
def test_second_signal_while_it_stops_changes_nothing(tmp_path: Path) -> None:
    """Also one that comes after the event loop has closed, which would end the process by the signal."""
    config = tmp_path / "pgslot.yml"
    config.write_text("clusters: {c: {nodes: {n: {conninfo: 'host=127.0.0.1 port=1 user=x'}}}}\n")
    program = Program("pg-slot-exporter", config, tmp_path)
    program.start()
    while program.process.running:
        program.process.send(signal.SIGINT)
        time.sleep(0.002)
    assert program.stop() == 0
    assert "Traceback" not in program.process.log.read_text("utf-8")


def test_landing_page_links_to_all_nodes_and_runbooks(exporter: Program) -> None:
    exporter.get("/metrics")
    page = exporter.get("/").text
    assert 'href="probe?cluster=c&amp;node=standby"' in page
    assert re.search(r"<td>standby<td>standby, PostgreSQL \S+ <span class=\"quiet\">\d+ s ago</span>", page)
    for runbook in (ROOT / "alerts/runbooks").glob("*.md"):
        assert f'href="runbooks/{runbook.stem}"' in page
        assert exporter.get(f"/runbooks/{runbook.stem}").status_code == 200


HOSTILE = 'a"b\\c\nd\u00e9\U0001f40d{}'


def test_hostile_names_are_exposed_unchanged(exporter: Program, databases: Stack) -> None:
    quoted = '"' + HOSTILE.replace('"', '""') + '"'
    databases.primary.sql(f"CREATE DATABASE {quoted}")
    databases.primary.sql(f"CREATE ROLE {quoted} LOGIN")
    try:
        with databases.primary.hold_transaction(application_name=HOSTILE, user=HOSTILE, dbname=HOSTILE) as holder:
            pid = str(holder.pid)
            wait_for(lambda: exporter.samples("pgslot_oldest_transaction_info", pid=pid), "it is old enough")
            text = exporter.get("/metrics").text
            openmetrics = exporter.get("/metrics", Accept="application/openmetrics-text; version=1.0.0").text
        for families in (parse_text(text), parse_openmetrics(openmetrics)):  # type: ignore[no-untyped-call]
            [found] = [
                sample.labels
                for family in families
                for sample in family.samples
                if sample.name == "pgslot_oldest_transaction_info" and sample.labels["pid"] == pid
                if sample.labels["kind"] == "xid"
            ]
            assert (found["datname"], found["usename"]) == (HOSTILE, HOSTILE)
    finally:
        databases.primary.sql(f"DROP DATABASE {quoted}")
        databases.primary.sql(f"DROP ROLE {quoted}")


def test_promtool_accepts_the_page(exporter: Program) -> None:
    text = exporter.get("/metrics").text
    done = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_no_query_text_and_no_password_is_exposed_or_logged(databases: Stack, tmp_path: Path) -> None:
    conninfo = f"{databases.primary.conninfo(EXPORTER_ROLE)} password=sesame"
    write(
        tmp_path / "pgslot.yml", {"c": {"nodes": {"n": {"conninfo": conninfo}, "m": {"conninfo": "password=sesame"}}}}
    )
    program = Program("pg-slot-exporter", tmp_path / "pgslot.yml", tmp_path)
    program.process.arguments.append("--log.level=debug")
    try:
        program.start()
        with databases.primary.hold_transaction():
            text = program.get("/metrics").text + program.get("/").text + program.get("/sd").text
    finally:
        program.stop()
    text += program.process.log.read_text()
    assert "pgslot_up" in text
    assert "sesame" not in text
    assert "pg_current_xact_id" not in text


def test_committed_metric_reference_is_up_to_date() -> None:
    assert (ROOT / "docs/reference/exporter-metrics.md").read_text("utf-8") == metric_reference()
    for name in CATALOGUE:
        assert f"`{name}`" in metric_reference()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "command line: expected exactly one of --config.file and --conninfo, found neither"),
        (["--conninfo=", "--config.file=x"], "command line: expected exactly one of --config.file and"),
        (["--config.file=/nowhere.yml"], "/nowhere.yml: expected a readable file, found: No such file"),
        (["--conninfo=nonsense"], "--conninfo: expected libpq's key=value pairs or a URI"),
        (["--conninfo=", "--web.listen-address=nonsense"], "--web.listen-address: expected HOST:PORT"),
        (["--conninfo=", "--web.listen-address=1.2.3.4:99999"], "--web.listen-address: expected HOST:PORT"),
        (["--conninfo=", "--log.level=loud"], "argument --log.level: invalid choice: 'loud'"),
        (["--conninfo=", "--web.config.file=/nowhere.yml"], "/nowhere.yml: expected a readable file, found: No such"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["nonsense"], "invalid choice: 'nonsense'"),
    ],
)
def test_bad_command_line_is_one_clear_error(flags: list[str], message: str) -> None:
    done = in_process.run("pg-slot-exporter", "--check", *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_basic_authentication_protects_every_path(databases: Stack, tmp_path: Path) -> None:
    write(tmp_path / "pgslot.yml", {"c": {"nodes": nodes(databases)}})
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(f"basic_auth_users: {{prometheus: '{hashed}'}}")
    program = Program("pg-slot-exporter", tmp_path / "pgslot.yml", tmp_path)
    program.process.arguments.append(f"--web.config.file={tmp_path / 'web.yml'}")
    right = ("prometheus", "secret")
    program.process.start()
    try:

        def answer(path: str, **options: Any) -> int:
            try:
                return requests.get(program.url + path, timeout=10, **options).status_code
            except requests.ConnectionError:
                return 0

        wait_for(lambda: answer("/-/ready", auth=right) == 200, "it is ready", log=program.process.log)
        for path in ("/", "/metrics", "/sd", "/-/healthy", "/nothing"):
            assert answer(path) == 401
        assert answer("/metrics", auth=("prometheus", "wrong")) == 401
        assert answer("/metrics", auth=right) == 200
    finally:
        program.stop()


def test_address_in_use_is_one_clear_error(exporter: Program) -> None:
    arguments = [str(EXPORTER_PROGRAM), "--conninfo=", f"--web.listen-address=127.0.0.1:{exporter.port}"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "--web.listen-address: expected an address to listen on, found: " in done.stderr
    assert "Traceback" not in done.stderr
