"""The command line of pg-slot-healer: which commands there are, their flags, and what their exit codes mean."""

import argparse
from collections.abc import Callable
from pathlib import Path

from healer.commands import doctor, grants, heal, metrics_reference, replay, serve
from healer.commands.grants import ENDER_ROLE, EXPORTER_ROLE, HEALER_ROLE
from pgslot.cli import flags

Command = Callable[[argparse.Namespace], int]
"""A command: takes the parsed options, returns the exit code. Raises ConfigError for bad input."""

DEFAULT_ADDRESS = ":9878"
DEFAULT_URL = "http://localhost:9878"

_EXIT_CODES = """
exit codes:
  any      2 bad input: command line, configuration or file
  serve    0 stopped by a signal
  heal     0 nothing waits any more (healed, or nothing was there to heal), 1 not healed, 2 unavailable
  replay   0 printed, 1 somebody has to put something right before one of the alerts is of use
  grants   0 printed
  metrics  0 printed
  doctor   0 nothing failed (warnings do not count), 1 something failed, 3 nothing failed but something is unknown

pg-slot-healer COMMAND --help shows the flags of a command. --config.file may stand before or after the command.
"""


def parser() -> argparse.ArgumentParser:
    """Describe the command line; the result of parsing has `run`, the command as a function of the options."""
    result = argparse.ArgumentParser(
        prog="pg-slot-healer",
        description="Takes Alertmanager's webhooks and forces the running-xacts record that a slot waits for.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # What `serve` takes is taken without a command, too: to serve is what a service manager starts it for.
    _add_serve_flags(result, again=False)
    result.set_defaults(run=serve.run)
    subparsers = result.add_subparsers(title="commands", metavar="COMMAND")

    serve_parser = subparsers.add_parser("serve", help="take webhooks and heal (the default)")
    _add_serve_flags(serve_parser, again=True)
    serve_parser.set_defaults(run=serve.run)

    heal_parser = subparsers.add_parser("heal", help="one episode by hand: print what is seen and done")
    heal_parser.add_argument("cluster", metavar="CLUSTER", help="its name in the configuration")
    heal_parser.add_argument("--dry-run", action="store_true", help="look and decide, and call nothing")
    heal_parser.add_argument(
        "--give-up-after",
        metavar="DURATION",
        help="such as 30s or 5m; default the configuration's, and two minutes at the most",
    )
    _finish(heal_parser, heal.run)

    replay_parser = subparsers.add_parser("replay", help="print what would be done with each alert of a saved webhook")
    replay_parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="a webhook's body, or the answer of Alertmanager's GET /api/v2/alerts; - is standard input",
    )
    replay_parser.add_argument(
        "--offline", action="store_true", help="ask no database: which alerts would start an episode?"
    )
    _finish(replay_parser, replay.run)

    grants_parser = subparsers.add_parser("grants", help="print the SQL that makes both roles with least privilege")
    grants_parser.add_argument("--exporter-role", default=EXPORTER_ROLE, metavar="NAME", help="default %(default)s")
    grants_parser.add_argument("--healer-role", default=HEALER_ROLE, metavar="NAME", help="default %(default)s")
    grants_parser.add_argument(
        "--end-transactions",
        action="store_true",
        help="print the SQL of the role that may end transactions instead, and of its table",
    )
    grants_parser.add_argument("--ender-role", default=ENDER_ROLE, metavar="NAME", help="default %(default)s")
    grants_parser.set_defaults(run=grants.run)

    metrics_parser = subparsers.add_parser("metrics", help="print the metric reference as Markdown")
    metrics_parser.set_defaults(run=metrics_reference.run)

    doctor_parser = subparsers.add_parser(
        "doctor",
        help="check the whole chain from the servers to Alertmanager, and say what to do",
        description="Checks each link and says what to do where one fails. URLs are as seen from here. They may have a"
        " user and password, which is better kept in ~/.netrc; REQUESTS_CA_BUNDLE or SSL_CERT_FILE names a certificate"
        " authority.",
    )
    doctor_parser.add_argument(
        "--healer.url", dest="healer_url", default=DEFAULT_URL, metavar="URL", help="default %(default)s"
    )
    doctor_parser.add_argument("--prometheus.url", dest="prometheus_url", metavar="URL", help="otherwise left out")
    doctor_parser.add_argument(
        "--alertmanager.url", dest="alertmanager_url", metavar="URL", help="default: healer.alertmanager_url"
    )
    doctor_parser.add_argument(
        "--test-alert",
        action="store_true",
        help="send Alertmanager a marked alert along each route, and see which of them arrive at the healer",
    )
    _finish(doctor_parser, doctor.run)
    return result


def _add_serve_flags(target: argparse.ArgumentParser, *, again: bool) -> None:
    flags.add_common(target, default_address=DEFAULT_ADDRESS, again=again)
    target.add_argument(
        "--web.allow-unauthenticated",
        dest="allow_unauthenticated",
        action="store_true",
        default=argparse.SUPPRESS if again else False,
        help="take webhooks without a token on other addresses than loopback",
    )


def _finish(target: argparse.ArgumentParser, run: Command) -> None:
    """Add what all commands have that read the configuration and report."""
    flags.add_config_file(target, again=True)
    target.add_argument("--json", action="store_true", help="for scripts")
    target.set_defaults(run=run)
