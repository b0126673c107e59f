"""Each row of the table in docs/how-to/why-it-did-not-act.md is produced here, by a running healer if one can be."""

import ast
import asyncio
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from aiohttp.test_utils import TestClient, TestServer

from healer.app import application
from healer.episodes.journal import EpisodeJournal
from healer.remedies.attempt import AttemptResult, Capability, Unavailable
from healer.remedies.force_snapshot.connection import RecordAttempt
from healer.remedies.progress import Outcome
from healer.remedies.registry import END_TRANSACTION, FORCE_SNAPSHOT
from healer.remedies.slot_state import SlotKey
from healer.slot_history import EventKind, SlotEvent, SlotHistory
from healer.webhook.payload import Action
from healer.webhook.refusals import RefusedWebhooks
from healer.why import Explanation, RemedyState, SlotFacts, Verdict, explain
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerConfig, HealerSettings, Node
from pgslot.config.reload import ConfigReloader
from pgslot.httpserver.middleware import WebConfigMiddleware
from pgslot.httpserver.web_config import load
from tests.support.hanging_creations import blocked_creation, hanging_creation
from tests.support.pages import problems
from tests.support.running_healer import QUICK, Healer, alert, healing, to_primary, usable, watched
from tests.support.servers.processes import free_port
from tests.support.servers.stack import POWERLESS_ROLE, Stack
from tests.support.why_table import ROWS

NOWHERE = Conninfo(f"host=127.0.0.1 port={free_port()} user=x")
KEY = SlotKey("n", "s")
MIN_START = 5
"""Characters of a row that a test names."""


def configured(name: str, **healer: Any) -> Cluster:
    target = HealerConfig(NOWHERE, enabled=True, dry_run=False)
    return Cluster(name, (Node(name, "n", NOWHERE),), replace(target, **healer))


CLUSTERS = (
    configured("c"),
    configured("off", enabled=False, disabled_reason="CHG-7"),
    configured("all_off", enabled=False, disabled_reason="the audit", disabled_everywhere=True),
    Cluster("watched", (Node("watched", "n", NOWHERE),), None),
)


async def answer(healer: Healer, slot: str = "s", cluster: str = "c") -> dict[str, Any]:
    """Return what the healer says of one slot."""
    [found] = (await (await healer.client.get(f"/why?slot={slot}&cluster={cluster}")).json())["slots"]
    return dict(found)


def said(found: dict[str, Any]) -> str:
    return "\n".join(sentence["text"] for sentence in found["sentences"])


def row(start: str) -> str:
    """Return the row of the documentation's table that begins like this: what `why` says."""
    found: list[str] = [words for words in ROWS if words.startswith(start)]
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize("words", ROWS)
def test_row_of_the_table_is_produced_by_a_test(words: str) -> None:
    texts = [
        node.value for node in ast.walk(ast.parse(Path(__file__).read_text("utf-8"))) if isinstance(node, ast.Constant)
    ]
    assert any(isinstance(text, str) and len(text) > MIN_START and words.startswith(text) for text in texts)


LABELS = {"alertname": "PgSlotCreationStuck", "heal": "log_standby_snapshot", "cluster": "c", "node": "n"}


@pytest.mark.parametrize(
    ("labels", "start", "detail"),
    [
        ({"heal": ""}, "ignored: it lacks the label heal", ""),
        ({"cluster": "elsewhere"}, "ignored: its label cluster is", "'elsewhere'"),
        ({"node": "elsewhere"}, "ignored: its label node is", "'elsewhere'; the nodes of the cluster are: n"),
        ({"node": ""}, "ignored: it lacks the label node or slot_name", ""),
        ({"cluster": "watched"}, "ignored: its cluster has no healer section", ""),
        ({"heal": "end_transaction"}, "ignored: its remedy is off by default", ""),
        ({"alertname": "DatasourceNoData"}, "ignored: Grafana had no data", ""),
        ({"cluster": "off"}, "ignored: healing is switched off", "for its cluster (enabled), with the reason: CHG-7"),
        ({"cluster": "all_off"}, "ignored: healing is switched off", "(healer.enabled), with the reason: the audit"),
    ],
)
async def test_ignored_alert_is_remembered_with_its_reason(labels: dict[str, str], start: str, detail: str) -> None:
    labels = LABELS | {"slot_name": "s"} | labels
    async with healing(*CLUSTERS) as healer:
        await healer.post(alert("s") | {"labels": labels})
        found = await answer(healer, cluster=labels["cluster"])
    assert found["verdict"] == Verdict.NOT_ACTED
    assert f"was {row(start)}" in said(found)
    assert detail in said(found)


async def test_heartbeat_and_alerts_without_a_slot_take_no_memory() -> None:
    async with healing(*CLUSTERS) as healer:
        await healer.post(alert("") | {"labels": LABELS | {"slot_name": ""}})
        assert (await healer.client.get("/why?slot=")).status == 400
        found = await answer(healer)
    assert (found["verdict"], found["events"]) == (Verdict.UNKNOWN, [])
    assert row("no alert about this slot has reached this healer since") in said(found)
    assert row("unknown before") in said(found)


async def test_webhooks_with_another_token_are_counted(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("right")
    config = Config(CLUSTERS, HealerSettings(webhook_token_file=tmp_path / "token"))
    async with TestClient(TestServer(application(ConfigReloader(lambda: config, config)))) as client:
        healer = Healer(client)
        for _ in range(2):
            assert (await healer.post(alert("s")))[0] == 401
        found = await answer(healer)
    assert f"2 webhooks were {row('refused with 401')}" in said(found)


async def test_too_many_clusters_at_once_refuse_the_alert() -> None:
    settings = replace(QUICK, clusters_at_once=1)
    async with healing(configured("c"), configured("d"), settings=settings) as healer:
        # In one webhook: the first episode ends as soon as its server does not answer.
        status, _ = await healer.post(alert("first", node="n"), alert("s", node="n", cluster="d"))
        found = await answer(healer, cluster="d")
    assert status == 503
    assert f"was {row('not taken (503)')}: the healer acts on 1 cluster already (clusters_at_once)" in said(found)
    assert found["verdict"] == Verdict.NOT_ACTED


async def test_heal_is_remembered_with_its_proof(databases: Stack) -> None:
    async with healing(watched(databases)) as healer:
        with hanging_creation(databases, "cured"):
            await healer.post(alert("cured"))
            await healer.ended()
            await healer.post(alert("cured", firing=False))
        found = await answer(healer, "cured")
        page = await (await healer.client.get("/slots/c/cured")).text()
        status = await (await healer.client.get("/")).text()
    databases.drop_slot("cured")
    text = said(found)
    assert found["verdict"] == Verdict.WELL
    assert "PgSlotCreationStuck about the slot on standby arrived and began an episode" in text
    assert row("a look at the servers showed the slot") in text
    assert "called pg_log_standby_snapshot()" in text
    assert f"{row('healed, and proven so')}: usable after our call" in text
    times = [sentence["at"] for sentence in found["sentences"] if sentence["at"] is not None]
    assert times == sorted(times)
    assert all(time.time() - 60 < at <= time.time() for at in times)
    assert problems(page) == []
    assert "healed, and proven so" in page
    assert '<a href="slots/c/cured">cured</a>' in status


async def test_missing_privilege_is_remembered_and_shown_as_it_is_now(databases: Stack) -> None:
    powerless = watched(databases, conninfo=to_primary(databases.primary, role=POWERLESS_ROLE))
    async with healing(powerless) as healer:
        with hanging_creation(databases, "powerless"):
            await healer.post(alert("powerless"))
            await healer.ended()
        found = await answer(healer, "powerless")
    databases.drop_slot("powerless")
    assert found["verdict"] == Verdict.NOT_ACTED
    assert f"{row('could not act')}: missing_privilege" in said(found)
    assert row("the healer cannot act on this cluster now") in said(found)
    assert f'TO "{POWERLESS_ROLE}"' in said(found)


async def test_dry_run_is_given_as_the_reason(databases: Stack) -> None:
    async with healing(watched(databases, dry_run=True)) as healer:
        with hanging_creation(databases, "dry"):
            await healer.post(alert("dry"))
            await healer.ended()
        found = await answer(healer, "dry")
    databases.drop_slot("dry")
    assert f"{row('did nothing, as dry_run is set')}: would have called" in said(found)
    assert found["verdict"] == Verdict.NOT_ACTED


async def test_transaction_in_the_way_is_named_and_the_end_of_the_alert_stops_the_heal(databases: Stack) -> None:
    async with healing(watched(databases)) as healer:
        with blocked_creation(databases, "blocked", application="nightly"):
            await healer.post(alert("blocked"))
            await until_said(healer, "blocked", "application=nightly")
            assert (await answer(healer, "blocked"))["verdict"] == Verdict.WORKING
            assert row("an episode works on this slot now") in said(await answer(healer, "blocked"))
            await healer.post(alert("blocked", firing=False))
            await healer.ended()
        found = await answer(healer, "blocked")
    databases.drop_slot("blocked")
    assert f"{row('stopped')}: the alert was resolved while the slot still waited" in said(found)
    assert found["verdict"] == Verdict.WELL


async def test_healer_that_gives_up_says_what_the_slot_still_waited_for(databases: Stack) -> None:
    settings = replace(QUICK, give_up_after=2.0)
    async with healing(watched(databases), settings=settings) as healer:
        with blocked_creation(databases, "given_up"):
            await healer.post(alert("given_up"))
            await healer.ended()
        found = await answer(healer, "given_up")
    databases.drop_slot("given_up")
    assert f"{row('gave up')}: still waiting: transaction" in said(found)
    assert found["verdict"] == Verdict.NOT_ACTED


async def test_wait_that_ended_by_itself_is_no_merit_of_the_healer(databases: Stack) -> None:
    databases.make_slot_on_standby("fine")
    assert usable(databases.standby, "fine")
    async with healing(watched(databases)) as healer:
        await healer.post(alert("fine"))
        await until_said(healer, "fine", row("the wait ended, and nothing proves that the healer ended it"))
        assert (await answer(healer, "fine"))["verdict"] == Verdict.WELL
    databases.drop_slot("fine")


async def until_said(healer: Healer, slot: str, text: str) -> None:
    async with asyncio.timeout(30):
        while text not in said(await answer(healer, slot)):  # noqa: ASYNC110 - it is behind a socket
            await asyncio.sleep(0.1)


def explained(record: Callable[[EpisodeJournal, SlotHistory], object], **facts: Any) -> Explanation:
    """Return the answer after what an episode's journal has recorded."""
    history = SlotHistory()
    record(EpisodeJournal("c", FORCE_SNAPSHOT, history), history)
    [memory] = history.recall("s") or [history.nothing("s", "c")]
    return explain(SlotFacts(memory, **facts))


def ended(outcome: Outcome, why: str) -> Callable[[EpisodeJournal, SlotHistory], object]:
    return lambda journal, _: journal.slot_ended(KEY, FORCE_SNAPSHOT.begin().end(outcome, why), outcome)


def attempted(attempt: RecordAttempt) -> Callable[[EpisodeJournal, SlotHistory], object]:
    return lambda journal, _: journal.attempted(attempt, (), [KEY])


CANNOT = Capability(Unavailable.MISSING_PRIVILEGE, "GRANT it;")
OFF = Capability(Unavailable.DISABLED, "enabled: false in the configuration (CHG-7).")


@pytest.mark.parametrize(
    ("record", "facts", "start", "verdict"),
    [
        (ended(Outcome.NO_EFFECT, "its consumer has not read"), {}, "acted, but without effect", Verdict.NOT_ACTED),
        (ended(Outcome.REFUSED, "active: pid=1"), {}, "did not act, because a guard refused", Verdict.NOT_ACTED),
        (ended(Outcome.ERROR, "see the log"), {}, "failed because of a bug", Verdict.NOT_ACTED),
        (ended(Outcome.GAVE_UP, "the budget of calls is spent: calls per cluster and hour"), {}, "gave up",
         Verdict.NOT_ACTED),
        (ended(Outcome.CANCELLED, "switched off: resolved elsewhere"), {}, "stopped", Verdict.NOT_ACTED),
        (attempted(RecordAttempt(AttemptResult.LOCKED)), {}, "not called: another healer acts", Verdict.UNKNOWN),
        (attempted(RecordAttempt(AttemptResult.LOCKED, lock_holder="pid=7")), {},
         "not called: another client holds", Verdict.UNKNOWN),
        (lambda journal, _: journal.no_room([KEY]), {}, "waited: the healer acted on as many clusters",
         Verdict.UNKNOWN),
        (lambda _, __: None, {"remedies": (RemedyState("r", OFF, 1, dry_run=False),)},
         "healing is switched off now", Verdict.UNKNOWN),
        (lambda _, __: None, {"remedies": (RemedyState("r", None, 0, dry_run=True),)},
         "the remedy log_standby_snapshot has no calls left", Verdict.UNKNOWN),
        (lambda _, __: None, {"muted": (("PgSlotStalled", "silenced (by 4711)"),)}, "fires now and is silenced",
         Verdict.UNKNOWN),
        (lambda journal, _: journal.left(KEY, "silenced (by 4711)"), {}, "its alert was silenced", Verdict.UNKNOWN),
    ],
)  # fmt: skip
def test_sentences_of_what_an_episode_recorded(
    record: Callable[[EpisodeJournal, SlotHistory], object], facts: dict[str, Any], start: str, verdict: Verdict
) -> None:
    explanation = explained(record, **facts)
    wanted = row(start).replace("log_standby_snapshot", "r") if "remedies" in facts else row(start)
    assert any(wanted in sentence.text for sentence in explanation.sentences), explanation.sentences
    assert explanation.verdict is verdict


def test_attempts_alike_are_one_sentence_with_their_number() -> None:
    def record(journal: EpisodeJournal, _: SlotHistory) -> None:
        for lsn in ("0/1", "0/2", "0/3"):
            journal.attempted(RecordAttempt(AttemptResult.OK, lsn=lsn, before="0/0"), (), [KEY])

    [sentence] = [sentence for sentence in explained(record).sentences if "called" in sentence.text]
    assert sentence.text.startswith("called pg_log_standby_snapshot() (3 times until ")


def test_node_is_named_where_two_nodes_have_a_slot_of_that_name() -> None:
    def record(journal: EpisodeJournal, _: SlotHistory) -> None:
        for node in ("a", "b"):
            journal.slot_ended(SlotKey(node, "s"), FORCE_SNAPSHOT.begin().end(Outcome.HEALED, "why"), Outcome.HEALED)

    texts = [sentence.text for sentence in explained(record).sentences if "healed" in sentence.text]
    assert texts == [f"{node}: healed, and proven so (healed): why" for node in ("a", "b")]


def test_alertmanager_without_an_answer_is_not_taken_for_no_alert() -> None:
    texts = [sentence.text for sentence in explained(lambda *_: None, alertmanager_error="TimeoutError").sentences]
    assert "which alerts fire now is not known: Alertmanager gives no valid answer: TimeoutError" in texts


@pytest.mark.parametrize("action", Action)
def test_every_action_has_a_sentence(action: Action) -> None:
    event = SlotEvent(EventKind.ALERT, action, "the reason", alertname="A", node="n")
    [sentence, *_] = explained(lambda _, history: history.record("c", "s", event)).sentences
    assert sentence.text.startswith("A about the slot on n ")


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_a_sentence(outcome: Outcome) -> None:
    [sentence, *_] = explained(ended(outcome, "the reason")).sentences
    assert sentence.text.endswith(f"({outcome}): the reason")


def test_refused_webhooks_are_forgotten_after_a_day() -> None:
    now = [1000.0]
    refused = RefusedWebhooks(lambda: now[0])
    for status in (200, 401, 401, 503):
        refused.record(status)
    assert [(refusal.status, refusal.count) for refusal in refused.recent] == [(401, 2), (503, 1)]
    now[0] += 86401
    assert not refused.recent
    refused.record(401)
    assert [(refusal.status, refusal.count) for refusal in refused.recent] == [(401, 1)]


async def test_answers_need_the_password_of_the_web_configuration(tmp_path: Path) -> None:
    file = tmp_path / "web.yml"
    file.write_text(f"basic_auth_users: {{dba: '{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}'}}")
    credentials = b64encode(b"dba:secret").decode()
    config = Config(CLUSTERS, QUICK)
    app = application(ConfigReloader(lambda: config, config))
    WebConfigMiddleware(load(file)).install(app)
    async with TestClient(TestServer(app)) as client:
        for path in ("/why?slot=s", "/slots/c/s"):
            assert (await client.get(path)).status == 401
            assert (await client.get(path, headers={"Authorization": f"Basic {credentials}"})).status == 200


@pytest.fixture
async def healer() -> AsyncIterator[Healer]:
    async with healing(*CLUSTERS) as running:
        yield running


HOSTILE = "<script>alert(1)</script>"


@pytest.mark.parametrize("path", ["/slots/c/%3Cscript%3E", "/slots/%ED%A0%80/s", "/slots/c/" + "s" * 5000])
async def test_page_of_any_slot_is_a_page(healer: Healer, path: str) -> None:
    given = await healer.client.get(path)
    page = await given.text()
    assert given.status == 200
    assert problems(page) == []
    assert "This healer remembers nothing about the slot." in page
    assert "<script>" not in page.split("<main>")[1].split("</main>")[0]


async def test_names_of_alerts_are_shown_as_text(healer: Healer) -> None:
    labels = LABELS | {"slot_name": "s", "alertname": HOSTILE, "node": HOSTILE}
    await healer.post(alert("s") | {"labels": labels})
    page = await (await healer.client.get("/slots/c/s")).text()
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt; about the slot" in page


async def test_guards_of_the_second_remedy_appear_in_the_history() -> None:
    """Each refusal has the name of its guard in the outcome's reason, as the docs' table says."""
    history = SlotHistory()
    journal = EpisodeJournal("c", END_TRANSACTION, history)
    journal.slot_ended(KEY, END_TRANSACTION.begin().end(Outcome.REFUSED, "hour_spent: pid=7"), Outcome.REFUSED)
    [memory] = history.recall("s")
    [sentence, *_] = explain(SlotFacts(memory)).sentences
    assert sentence.text == "did not act, because a guard refused (refused): hour_spent: pid=7"
