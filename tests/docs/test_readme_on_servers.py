"""README as its reader follows it: the very lines, from roles to a slot that heals, on servers of one's own."""

import json
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import pytest
import requests
import yaml

from tests.support.doctor import hides_webhook_urls
from tests.support.readme import Reader, block, lines, merged_config, shell_lines_that_are_run
from tests.support.servers import binaries
from tests.support.servers.monitoring import Alertmanager, Prometheus
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import free_port, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PASSWORDS = {"pgslot_exporter": "eyes", "pgslot_healer": "hands", "pgslot_ender": "fist"}
CONFIGURATION, ENDING, HBA, TOLD = "clusters:\n  orders:  ", "clusters:\n  orders:\n    healer", "hostssl", "ok  "


class Walk:
    """What is the reader's own: two servers, a folder, and the ports."""

    def __init__(self, folder: Path, cleanup: ExitStack) -> None:
        self.folder = folder
        self.cleanup = cleanup
        programs = binaries.find(folder)
        self.primary = Postgres.primary(programs, folder, "primary")
        cleanup.callback(self.primary.stop)
        self.standby = self.primary.standby("standby")
        cleanup.callback(self.standby.stop)
        self.addresses = {
            name: f"127.0.0.1:{free_port()}" for name in ("exporter:9877", "healer:9878", "alertmanager:9093")
        }
        self.addresses |= {"/run/secrets/webhook-token": str(folder / "webhook-token")}
        self.prometheus = Prometheus(folder, self.addresses, {}, as_shipped=True)
        self.alertmanager = Alertmanager(folder, self.addresses)
        self.one = f"127.0.0.1:{free_port()}"
        pgpass = folder / "pgpass"
        pgpass.write_text("".join(f"127.0.0.1:*:*:{user}:{word}\n" for user, word in PASSWORDS.items()), "utf-8")
        pgpass.chmod(0o600)
        environment = {"PGHOST": "127.0.0.1", "PGPORT": str(self.primary.port), "PGUSER": "postgres"}
        self.reader = Reader(folder, programs.tools, self.replacements(), environment)

    def replacements(self) -> dict[str, str]:
        """README's addresses, ports and paths, and the reader's: nothing else of a line is changed."""
        primary, standby = self.primary.port, self.standby.port
        passfile = f"passfile={self.folder / 'pgpass'}"
        exporter, healer = self.addresses["exporter:9877"], self.addresses["healer:9878"]
        return {
            "host=10.0.0.1,10.0.0.2 ": f"host=127.0.0.1,127.0.0.1 port={primary},{standby} {passfile} ",
            "host=10.0.0.1 ": f"host=127.0.0.1 port={primary} {passfile} ",
            "host=10.0.0.2 ": f"host=127.0.0.1 port={standby} {passfile} ",
            "host=db ": f"host=127.0.0.1 port={primary} {passfile} ",
            "# one server needs no file": f"--web.listen-address={self.one}",
            "# :9877": f"--web.listen-address={exporter}",
            "# :9878": f"--web.listen-address={healer} #",
            "-h STANDBY ": f"-h 127.0.0.1 -p {standby} ",
            "EXPORTER:9877": exporter,
            "https://pgslot.example.com/": f"http://{exporter}/",
            "HEALER:9878": healer,
            "PROMETHEUS:9090": self.prometheus.url.removeprefix("http://"),
            "ALERTMANAGER:9093": self.addresses["alertmanager:9093"],
            "alertmanager:9093": self.addresses["alertmanager:9093"],
            "/run/secrets/webhook-token": self.addresses["/run/secrets/webhook-token"],
            "hostssl ": "host ",
            "10.0.0.0/24": "127.0.0.1/32",
        }

    def make_roles(self) -> None:
        told = self.reader.type("pg-slot-healer grants | psql")
        assert re.search(r"pgslot_healer +\| postgres +\| t +\| f +\| t\n", told), told
        self.set_passwords("pgslot_exporter", "pgslot_healer")
        self.let_in(self.reader.with_own(block(HBA).text))

    def set_passwords(self, *users: str) -> None:
        typed = "".join(f"{PASSWORDS[user]}\n" * 2 for user in users)
        line = self.reader.line(r"psql -d postgres -c '\password pgslot_exporter'")
        self.reader.run(line if len(users) == 2 else f"psql -d postgres -c '\\password {users[0]}'", stdin=typed)

    def let_in(self, rules: str) -> None:
        """Put lines into each server's pg_hba.conf, before those that trust everybody on loopback."""
        for server in (self.primary, self.standby):
            [(file,)] = server.sql("SHOW hba_file")
            Path(file).write_text(rules + Path(file).read_text("utf-8"), "utf-8")
            self.reader.type("psql -d postgres -c 'SELECT pg_reload_conf()'", PGPORT=str(server.port))
        [(error,)] = self.primary.sql("SELECT string_agg(error, ', ') FROM pg_catalog.pg_hba_file_rules")
        assert error is None

    def configure(self) -> None:
        self.reader.run(self.reader.span("head -c 32 /dev/urandom"))
        self.write(self.reader.with_own(block(CONFIGURATION).text))
        for program in ("pg-slot-exporter", "pg-slot-healer"):
            assert "configuration is valid" in self.reader.type(f"{program} --config.file=pgslot.yml --check")

    def write(self, configuration: str) -> None:
        (self.folder / "pgslot.yml").write_text(configuration, "utf-8")

    def start(self) -> None:
        self.exporter = self.reader.started("pg-slot-exporter --config.file=pgslot.yml   ", "exporter")
        self.cleanup.callback(self.exporter.stop)
        self.healer = self.reader.started("pg-slot-healer --config.file=pgslot.yml   ", "healer")
        self.cleanup.callback(self.healer.stop)
        self.reader.run(self.reader.span("pg-slot-exporter rules --runbook-base"))
        shutil.move(self.folder / "pgslot.rules.yml", self.folder / "prometheus/pgslot.rules.yml")
        for server in (self.alertmanager, self.prometheus):
            self.cleanup.callback(server.stop)
            server.start()

    @contextmanager
    def without_a_route(self) -> Iterator[None]:
        """Take the first one away for a while, which leads to the healer."""
        file = self.folder / "alertmanager/alertmanager.yml"
        before = file.read_text("utf-8")
        routing = yaml.safe_load(before)
        del routing["route"]["routes"][0]
        self._reload(file, yaml.safe_dump(routing))
        yield
        self._reload(file, before)

    def _reload(self, file: Path, text: str) -> None:
        file.write_text(text, "utf-8")
        requests.post(f"{self.alertmanager.url}/-/reload", timeout=10).raise_for_status()

    def healer_s_metrics(self) -> str:
        return requests.get(self.reader.with_own("http://HEALER:9878/metrics"), timeout=10).text


@pytest.fixture
def walk() -> Iterator[Walk]:
    folder = Path(tempfile.mkdtemp(prefix="pgslot-readme-"))
    folder.chmod(0o755)
    with ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        yield Walk(folder, cleanup)


def test_readme_leads_from_roles_to_a_healed_slot(walk: Walk) -> None:
    """One walk, as each step needs the ones before it. At its end every line that README gives has been typed."""
    walk.make_roles()
    walk.configure()
    walk.start()
    find_and_mend_faults(walk)
    see_it_heal(walk)
    by_hand(walk)
    switch_off_and_on(walk)
    allow_to_end_transactions(walk)
    one_server_without_a_file(walk)
    assert set(shell_lines_that_are_run()) - walk.reader.typed == set()


def find_and_mend_faults(walk: Walk) -> None:
    """What README shows of the doctor is what he says; with his advice followed all is green."""
    shown = [plain(line) for line in lines(block(TOLD))]
    grant = next(line for line in shown if "GRANT EXECUTE" in line).partition('"postgres": ')[2]
    walk.primary.sql(grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))
    if hides_webhook_urls():
        # This Alertmanager does not show where webhooks lead: of a route there is no proof soon, and no advice.
        shown = shown[:4]
    with nullcontext() if hides_webhook_urls() else walk.without_a_route():
        found = [plain(line) for line in walk.reader.type("pg-slot-healer doctor", code=1).splitlines()]
    for line in shown:
        assert any(each.startswith(line.removesuffix(" ...")) for each in found), f"{line!r} is none of {found}"
    walk.primary.sql(grant)
    wait_for(lambda: walk.prometheus.query("count(up == 1) == 3"), "Prometheus has scraped them, each 15 s")
    wait_for(lambda: walk.prometheus.query("node:pgslot_wal_limit_bytes:max"), "and has evaluated the rules")
    line = walk.reader.line("pg-slot-healer doctor")
    # Which proves the way at once; the heartbeat comes within 5 minutes.
    walk.reader.run(f"{line} {walk.reader.span('--test-alert')}")
    told = walk.reader.run(line).splitlines()
    assert [each for each in told[:-1] if not each.startswith("ok ")] == []


def plain(line: str) -> str:
    """Return it without what differs from one machine to another: addresses, minor versions, widths of columns."""
    line = re.sub(r"127\.0\.0\.1:\d+", "HEALER:9878", re.sub(r"PostgreSQL 18\.\d+", "PostgreSQL 18", line))
    return " ".join(line.split())


def see_it_heal(walk: Walk) -> None:
    typing = walk.reader
    walk.primary.wait_until_idle(walk.standby)
    creating = typing.started("pg_recvlogical", "pg_recvlogical")
    walk.cleanup.callback(creating.stop)
    asked = "curl -s http://PROMETHEUS:9090/api/v1/alerts"
    firing = wait_for(lambda: alerts(typing.type(asked)).get("PgSlotCreationWaiting"), "the alert fires")
    page = typing.type("curl -s http://EXPORTER:9877/runbooks/PgSlotCreationWaiting")
    assert firing["runbook_url"] == typing.with_own("http://EXPORTER:9877/runbooks/PgSlotCreationWaiting")
    assert "<h1>PgSlotCreationWaiting</h1>" in page
    wait_for(lambda: not creating.running, "the slot is made", log=creating.log)
    assert creating.stop() == 0, creating.log.read_text("utf-8")
    assert "pgslot_wal_status{" in typing.type("curl -s http://EXPORTER:9877/metrics")
    # The healer looks once more before it says so.
    asked = "curl -s http://HEALER:9878/metrics"
    wait_for(lambda: typing.type(asked).endswith(" 1.0\n"), "it is told as healed", log=walk.healer.log)
    [episode] = json.loads(typing.type("curl -s http://HEALER:9878/episodes"))
    [slot] = episode["slots"]
    assert (episode["cluster"], slot["node"], slot["slot_name"]) == ("orders", "orders-2", "try_pgslot")
    assert (slot["outcome"], episode["reasons"]) == ("healed", ["running_xacts"])
    typing.type("psql -h STANDBY")
    assert walk.standby.sql("SELECT 1 FROM pg_catalog.pg_replication_slots") == []


def alerts(answer: str) -> dict[str, dict[str, str]]:
    """Return the annotations of what fires, by name."""
    listed = json.loads(answer)["data"]["alerts"]
    return {each["labels"]["alertname"]: each["annotations"] for each in listed if each["state"] == "firing"}


def by_hand(walk: Walk) -> None:
    assert "nothing to heal" in walk.reader.type("pg-slot-healer heal orders")
    # The heartbeat at the least: sent again after a minute if Prometheus did not know Alertmanager yet.
    asked = "curl -s http://ALERTMANAGER:9093/api/v2/alerts"
    wait_for(lambda: "alerts[0]  " in walk.reader.type(asked), "an alert is told", timeout=90)


def switch_off_and_on(walk: Walk) -> None:
    """Either switch, and SIGHUP."""
    on = (walk.folder / "pgslot.yml").read_text("utf-8")
    for switch in ("the switch of this cluster", "the switch of all clusters"):
        off = re.sub(rf"enabled: true( +# {switch})", r"enabled: false\1", on)
        assert off != on
        walk.write(off)
        walk.healer.send(signal.SIGHUP)
        wait_for(lambda: "\npgslot_heal_disabled_info{" in walk.healer_s_metrics(), "it is off")
        assert "cannot heal: disabled" in walk.reader.type("pg-slot-healer heal orders", code=2)
        walk.write(on)
        walk.healer.send(signal.SIGHUP)
        wait_for(lambda: "\npgslot_heal_disabled_info{" not in walk.healer_s_metrics(), "it is on again")


def allow_to_end_transactions(walk: Walk) -> None:
    """As a dry run, which the doctor warns of."""
    grants = walk.reader.span("pg-slot-healer grants --end-transactions")
    walk.reader.run(f"{grants} | psql -X -v ON_ERROR_STOP=1 -d postgres")
    walk.primary.sql("CREATE ROLE batch LOGIN")
    walk.primary.sql(walk.reader.span("ALTER ROLE batch"))
    walk.set_passwords("pgslot_ender")
    walk.let_in(walk.reader.with_own(block(HBA).text).replace("pgslot_exporter,pgslot_healer", "pgslot_ender"))
    part = yaml.safe_load(walk.reader.with_own(block(ENDING).text))
    walk.write(yaml.safe_dump(merged_config(yaml.safe_load((walk.folder / "pgslot.yml").read_text("utf-8")), part)))
    walk.healer.send(signal.SIGHUP)
    page = walk.reader.with_own("curl -s http://HEALER:9878/")
    wait_for(lambda: "1 call left in this hour" in walk.reader.run(page), "the status page shows it")
    told = walk.reader.type("pg-slot-healer doctor")
    assert "can act as pgslot_ender in database postgres, but dry_run: true" in told


def one_server_without_a_file(walk: Walk) -> None:
    single = walk.reader.started("pg-slot-exporter --conninfo=", "one")
    walk.cleanup.callback(single.stop)
    up = f"curl -s http://{walk.one}/metrics | grep '^pgslot_up' || true"
    wait_for(lambda: walk.reader.run(up).endswith(" 1\n"), "it shows that server", log=single.log)
