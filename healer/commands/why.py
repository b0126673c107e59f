"""`pg-slot-healer why SLOT`: why the healer did or did not act for a slot within the last day, in sentences."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict
from enum import IntEnum
from typing import Any

from healer.commands.doctor import DEFAULT_URL
from healer.doctor.alert_path import Arrived, explain_path, follow
from healer.doctor.http import Client, check_url, describe
from healer.doctor.run import Endpoints
from healer.slot_history import EventKind
from healer.why import Verdict, utc
from pgslot.cli import flags
from pgslot.cli import logging as log
from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import printable
from pgslot.cli.progress import show_progress
from pgslot.config.loader import load
from pgslot.httpclient import HttpError

HELP = "answer why the healer did or did not act for a slot within the last day"
EXAMPLES = (
    (
        "Why did the healer not act for the slot shop_cdc?",
        "pg-slot-healer why shop_cdc --cluster=shop",
    ),
    (
        "Did an alert about it fire that never reached the healer?",
        "pg-slot-healer why shop_cdc --prometheus.url=http://localhost:9090 --alertmanager.url=http://localhost:9093",
    ),
)

VERDICTS: dict[str, str] = {
    Verdict.WELL: "the last wait is over",
    Verdict.WORKING: "the healer works on it now",
    Verdict.NOT_ACTED: "the healer did not act, or in vain: a person has to",
    Verdict.UNKNOWN: "this healer knows of no alert about it",
}


class Exit(IntEnum):
    """Exit codes; 2 is bad input."""

    FINE = 0
    """The last wait is over, or the healer works on it, or no alert fired."""
    NEEDS_A_PERSON = 1
    UNKNOWN = 3
    """The healer does not answer, or it knows of no alert and nothing shows whether one fired."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Asks the running healer what it decided about each alert about a slot within the last day, and prints that in"
        " sentences with times. URLs may contain a user and password, but these are better kept in ~/.netrc;"
        " REQUESTS_CA_BUNDLE or SSL_CERT_FILE names a certificate authority."
    )
    parser.add_argument("slot", metavar="SLOT", help="the slot's name")
    parser.add_argument("--cluster", metavar="CLUSTER", help="the slot's cluster; default: every cluster that has one")
    parser.add_argument(
        "--healer.url", dest="healer_url", default=DEFAULT_URL, metavar="URL", help="the healer; default %(default)s"
    )
    parser.add_argument(
        "--prometheus.url",
        dest="prometheus_url",
        metavar="URL",
        help="Prometheus, to find alerts that fired and never reached the healer",
    )
    parser.add_argument(
        "--alertmanager.url",
        dest="alertmanager_url",
        metavar="URL",
        help="Alertmanager, to find out where it sends the alerts; default: healer.alertmanager_url of --config.file",
    )
    flags.add_config_file(parser, again=True)
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def run(options: argparse.Namespace) -> int:
    """Ask, and print the answer; return an Exit."""
    log.setup("error", "logfmt")
    if not options.slot:
        raise ConfigError("command line: expected the name of a slot, found an empty text")
    alertmanager = options.alertmanager_url
    if alertmanager is None and options.config_file is not None:
        alertmanager = load(options.config_file).healer.alertmanager_url
    endpoints = Endpoints(
        check_url("--healer.url", options.healer_url),
        options.prometheus_url and check_url("--prometheus.url", options.prometheus_url),
        alertmanager and check_url("--alertmanager.url", alertmanager),
    )
    return asyncio.run(_ask(options, endpoints))


async def _ask(options: argparse.Namespace, endpoints: Endpoints) -> Exit:
    async with AsyncExitStack() as stack:
        healer, prometheus, alertmanager = [
            None if url is None else await stack.enter_async_context(Client(url))
            for url in (endpoints.healer, endpoints.prometheus, endpoints.alertmanager)
        ]
        assert healer is not None  # noqa: S101 - its URL has a default
        answer: dict[str, Any] = {"slots": [], "left_off": 0}
        try:
            with show_progress("asking the healer"):
                answer = await ask_healer(healer, options.slot, options.cluster)
        except HttpError as error:
            print(printable(f"the healer at {healer.shown} gives no answer: {describe(error)}"), file=sys.stderr)
            if prometheus is None and alertmanager is None:
                return Exit.UNKNOWN
        with show_progress("following the alert from Prometheus to the healer"):
            path = await follow(options.slot, options.cluster, healer, prometheus, alertmanager)
    verdict, sentences = explain_path(path, arrived(answer), known_since(answer), time.time())
    if prometheus is not None or alertmanager is not None:
        answer["path"] = {"verdict": verdict, "sentences": [asdict(sentence) for sentence in sentences]}
    if options.json:
        print(json.dumps(answer, indent=2))
    else:
        for line in as_text(answer):
            print(printable(line))
    return exit_code([slot["verdict"] for slot in answer["slots"]], verdict)


async def ask_healer(healer: Client, slot: str, cluster: str | None) -> dict[str, Any]:
    """Return the answer of the healer's /why. Raises HttpError, also for an answer that is not what it promises."""
    parameters = {"slot": slot} | ({} if cluster is None else {"cluster": cluster})
    answer: Any = (await healer.request("GET", "/why", params=parameters)).expect_ok().json()
    try:
        for found in answer["slots"]:
            found["verdict"], found["cluster"], found["slot_name"], found["known_since"] + 0.0
            [(sentence["at"], sentence["text"]) for sentence in found["sentences"]]
            [(event["kind"], event["alertname"], event["node"], event["last_at"] + 0.0) for event in found["events"]]
    except (KeyError, TypeError) as error:
        raise HttpError(f"/why: expected a healer's answer, found another: {type(error).__name__} {error}") from None
    return dict(answer)


def as_text(answer: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the answer."""
    for slot in answer["slots"]:
        where = f" in {slot['cluster']}" if slot["cluster"] else ""
        yield f"{slot['slot_name']}{where}: {VERDICTS.get(slot['verdict'], slot['verdict'])}"
        yield from _lines(slot["sentences"])
    if answer["left_off"]:
        yield f"and in {answer['left_off']} more clusters: name one with --cluster"
    if "path" in answer:
        yield "the way from Prometheus to this healer:"
        yield from _lines(answer["path"]["sentences"])


def _lines(sentences: list[dict[str, Any]]) -> Iterator[str]:
    for sentence in sentences:
        yield f"  {utc(sentence['at']) if sentence['at'] is not None else 'now':23}  {sentence['text']}"


def arrived(answer: dict[str, Any]) -> list[Arrived]:
    """Return the alerts that the healer's answer shows to have arrived."""
    return [
        Arrived(event["alertname"], event["node"], slot["cluster"], event["last_at"])
        for slot in answer["slots"]
        for event in slot["events"]
        if event["kind"] == EventKind.ALERT
    ]


def known_since(answer: dict[str, Any]) -> float | None:
    """Return the Unix time since when the healer's answer is complete; None: it gave none."""
    return max((slot["known_since"] for slot in answer["slots"]), default=None)


def exit_code(verdicts: list[str], path: Verdict | None = None) -> Exit:
    """
    Return the exit code for the verdicts about all slots of the name.

    No verdict: the healer gave no answer. `path`: what Prometheus and Alertmanager add to that; None: nothing.
    """
    if Verdict.NOT_ACTED in (*verdicts, path):
        return Exit.NEEDS_A_PERSON
    if not verdicts:
        return Exit.UNKNOWN
    if path is Verdict.WELL:
        # No alert fired: then the healer rightly knows of none.
        verdicts = [verdict for verdict in verdicts if verdict != Verdict.UNKNOWN]
    return Exit.UNKNOWN if Verdict.UNKNOWN in (*verdicts, path) else Exit.FINE
