"""`make demo`: runs the five stories on real servers and shows them; exits with 0 only if every claim held."""

import argparse
import signal
import sys
from types import FrameType

from tests.e2e.demo.timeline import Timeline
from tests.support.servers.processes import NotReadyError
from tests.support.servers.stack import Stack
from tests.support.stories import ROWS, STORIES, THRESHOLDS, Scene


def main() -> int:
    """Run the demo; return the exit code."""
    parser = argparse.ArgumentParser(prog="make demo", description="Shows the main job on real servers.")
    parser.add_argument("--keep", action="store_true", help="leave the stack running and print its URLs")
    keep = parser.parse_args().keep
    signal.signal(signal.SIGTERM, _as_exit)
    timeline = Timeline()
    rows: list[tuple[str, str, bool]] = []
    with Stack(thresholds=THRESHOLDS, keep=keep) as stack:
        _start(stack, timeline)
        scene = Scene(stack, timeline.report, timeline.progress)
        for number, (title, story) in enumerate(STORIES.items()):
            timeline.heading(f"{'abcde'[number]}. {title}")
            try:
                rows += [(title, check.claim, check.held) for check in story(scene)]
            except (TimeoutError, NotReadyError) as error:
                timeline.report("demo", str(error))
                rows.append((title, str(error).splitlines()[0], False))
        timeline.heading(f"What held, after {timeline.seconds:.0f} s")
        timeline.table(rows)
        if keep:
            _print_running_servers(stack)
    return 0 if all(held for _, _, held in rows) else 1


def _start(stack: Stack, timeline: Timeline) -> None:
    timeline.heading("Starting real servers on loopback")
    stack.start_databases(rows=ROWS)
    stack.start_consumer()
    timeline.report(
        "demo", f"PostgreSQL {_version(stack)}: a primary, its standby, and a third server that subscribes later"
    )
    stack.start_exporter()
    stack.start_monitoring()
    short = ", ".join(f"{alert} after {seconds} s" for alert, seconds in THRESHOLDS.items())
    timeline.report("demo", f"pg-slot-exporter, Prometheus, Alertmanager; the shipped rules, but quicker: {short}")


def _version(stack: Stack) -> str:
    [(version,)] = stack.primary.sql("SELECT pg_catalog.current_setting('server_version')")
    return str(version)


def _print_running_servers(stack: Stack) -> None:
    stack.stop_healer()
    stack.start_healer()
    print("\nLeft running:")
    for name, url in stack.urls().items():
        print(f"  {name:<14}{url}")
    for server in (stack.primary, stack.standby, stack.consumer):
        print(f"  {server.name:<14}psql '{server.conninfo()}'")
    hangs = "SELECT pg_create_logical_replication_slot('by_hand', 'pgoutput')"
    print(f"""See it again: psql '{stack.standby.conninfo()}' -c "{hangs}" hangs, and is healed""")
    print(f"End it with: {sys.executable} -m tests.support.servers.stop {stack.folder}")


def _as_exit(_number: int, _frame: FrameType | None) -> None:
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
