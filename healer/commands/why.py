"""`pg-slot-healer why SLOT`: why the healer did or did not act for a slot within the last day, in sentences."""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from enum import IntEnum
from typing import Any

from healer.commands.doctor import DEFAULT_URL
from healer.doctor.http import Client, check_url, describe
from healer.why import Verdict, utc
from pgslot.cli import flags
from pgslot.cli import logging as log
from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import printable
from pgslot.httpclient import HttpError

HELP = "answer why the healer did or did not act for a slot within the last day"
EXAMPLES = (
    (
        "Why did the healer not act for the slot shop_cdc?",
        "pg-slot-healer why shop_cdc --cluster=shop",
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
    flags.add_config_file(parser, again=True)
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def run(options: argparse.Namespace) -> int:
    """Ask, and print the answer; return an Exit."""
    log.setup("error", "logfmt")
    if not options.slot:
        raise ConfigError("command line: expected the name of a slot, found an empty text")
    url = check_url("--healer.url", options.healer_url)
    return asyncio.run(_ask(options, url))


async def _ask(options: argparse.Namespace, url: str) -> Exit:
    async with Client(url) as healer:
        try:
            answer = await ask_healer(healer, options.slot, options.cluster)
        except HttpError as error:
            print(printable(f"the healer at {healer.shown} gives no answer: {describe(error)}"), file=sys.stderr)
            return Exit.UNKNOWN
    if options.json:
        print(json.dumps(answer, indent=2))
    else:
        for line in as_text(answer):
            print(printable(line))
    return exit_code([slot["verdict"] for slot in answer["slots"]])


async def ask_healer(healer: Client, slot: str, cluster: str | None) -> dict[str, Any]:
    """Return the answer of the healer's /why. Raises HttpError, also for an answer that is not what it promises."""
    parameters = {"slot": slot} | ({} if cluster is None else {"cluster": cluster})
    answer: Any = (await healer.request("GET", "/why", params=parameters)).expect_ok().json()
    try:
        for found in answer["slots"]:
            found["verdict"], found["cluster"], [(sentence["at"], sentence["text"]) for sentence in found["sentences"]]
    except (KeyError, TypeError) as error:
        raise HttpError(f"/why: expected a healer's answer, found another: {type(error).__name__} {error}") from None
    return dict(answer)


def as_text(answer: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the answer."""
    for slot in answer["slots"]:
        where = f" in {slot['cluster']}" if slot["cluster"] else ""
        yield f"{slot['slot_name']}{where}: {VERDICTS.get(slot['verdict'], slot['verdict'])}"
        for sentence in slot["sentences"]:
            yield f"  {utc(sentence['at']) if sentence['at'] is not None else 'now':23}  {sentence['text']}"
    if answer["left_off"]:
        yield f"and in {answer['left_off']} more clusters: name one with --cluster"


def exit_code(verdicts: list[str]) -> Exit:
    """Return the exit code for the verdicts about all slots of the name."""
    if Verdict.NOT_ACTED in verdicts:
        return Exit.NEEDS_A_PERSON
    return Exit.UNKNOWN if Verdict.UNKNOWN in verdicts else Exit.FINE
