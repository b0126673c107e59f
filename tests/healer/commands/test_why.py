"""`why` as a person runs it, on a running healer."""

import asyncio
import json
import re
from dataclasses import replace
from subprocess import CompletedProcess

import pytest

from healer.commands.why import Exit, exit_code
from healer.why import Verdict
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, HealerConfig, Node
from tests.support import in_process
from tests.support.running_healer import Healer, alert, healing
from tests.support.servers.processes import free_port

NOWHERE = Conninfo(f"host=127.0.0.1 port={free_port()} user=x")
OFF = Cluster(
    "off", (Node("off", "n", NOWHERE),), HealerConfig(NOWHERE, enabled=False, dry_run=False, disabled_reason="CHG-7")
)


async def why(healer: Healer, *arguments: str) -> CompletedProcess[str]:
    url = str(healer.client.make_url("/"))
    return await asyncio.to_thread(in_process.run, "pg-slot-healer", "why", f"--healer.url={url}", *arguments)


async def test_answer_is_sentences_with_times_and_an_exit_code_for_scripts() -> None:
    async with healing(OFF) as healer:
        await healer.post(alert("cdc", cluster="off", node="n"))
        done = await why(healer, "cdc", "--cluster=off")
        found = json.loads((await why(healer, "cdc", "--json")).stdout)
        unknown = await why(healer, "other")
    assert (done.returncode, done.stderr) == (1, "")
    first, event, *_ = done.stdout.splitlines()
    assert first == "cdc in off: the healer did not act, or in vain: a person has to"
    assert re.match(
        r"  20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC  PgSlotCreationStuck about the slot on n was ignored: healing is"
        r" switched off for its cluster \(enabled\), with the reason: CHG-7",
        event,
    )
    assert re.search(r"^  now {20}  healing is switched off now: .*\(CHG-7\)", done.stdout, re.MULTILINE)
    assert found["slots"][0]["verdict"] == "not_acted"
    assert unknown.returncode == 3
    assert "other: this healer knows of no alert about it" in unknown.stdout


async def test_slots_of_one_name_in_two_clusters_are_both_answered() -> None:
    async with healing(OFF, replace(OFF, name="too")) as healer:
        for cluster in ("off", "too"):
            await healer.post(alert("cdc", cluster=cluster, node="n"))
        done = await why(healer, "cdc")
    assert [line for line in done.stdout.splitlines() if not line.startswith(" ")] == [
        f"cdc in {cluster}: the healer did not act, or in vain: a person has to" for cluster in ("off", "too")
    ]


async def test_control_characters_in_labels_are_escaped() -> None:
    async with healing(OFF) as healer:
        labels = {"alertname": "\x1b[2J", "heal": "log_standby_snapshot", "cluster": "off", "slot_name": "cdc"}
        await healer.post(alert("cdc") | {"labels": labels})
        done = await why(healer, "cdc")
    assert "\\x1b[2J about the slot was ignored" in done.stdout
    assert all(line.isprintable() for line in done.stdout.splitlines())


def test_healer_that_does_not_answer_is_unknown_and_a_bad_url_is_bad_input() -> None:
    secret = "hunter2"
    url = f"--healer.url=http://u:{secret}@127.0.0.1:{free_port()}"
    done = in_process.run("pg-slot-healer", "why", "cdc", url)
    assert (done.returncode, done.stdout) == (3, "")
    assert re.match(r"the healer at http://127.0.0.1:\d+ gives no answer: Connection refused\n", done.stderr)
    assert secret not in done.stderr
    assert in_process.run("pg-slot-healer", "why", "cdc", "--healer.url=x").returncode == 2
    assert in_process.run("pg-slot-healer", "why", "").returncode == 2


@pytest.mark.parametrize(
    ("verdicts", "path", "code"),
    [
        ([Verdict.WELL, Verdict.WORKING], None, Exit.FINE),
        ([Verdict.WELL, Verdict.UNKNOWN], None, Exit.UNKNOWN),
        ([Verdict.UNKNOWN, Verdict.NOT_ACTED], None, Exit.NEEDS_A_PERSON),
        ([Verdict.WELL], Verdict.NOT_ACTED, Exit.NEEDS_A_PERSON),
        ([Verdict.WELL], Verdict.UNKNOWN, Exit.UNKNOWN),
        # No alert fired, so that it is no matter that the healer knows of none.
        ([Verdict.UNKNOWN], Verdict.WELL, Exit.FINE),
        ([], Verdict.WELL, Exit.UNKNOWN),
        ([], Verdict.NOT_ACTED, Exit.NEEDS_A_PERSON),
    ],
)
def test_worst_verdict_gives_the_exit_code(verdicts: list[str], path: Verdict | None, code: Exit) -> None:
    assert exit_code(verdicts, path) is code
