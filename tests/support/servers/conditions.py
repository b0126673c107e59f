"""Temporary conditions of a running server: changed settings, a stopped background process."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for


@contextmanager
def changed_setting(server: Postgres, name: str, value: str) -> Iterator[None]:
    server.sql(f"ALTER SYSTEM SET {name} = {value}")
    server.sql("SELECT pg_catalog.pg_reload_conf()")
    try:
        yield
    finally:
        server.sql(f"ALTER SYSTEM RESET {name}")
        server.sql("SELECT pg_catalog.pg_reload_conf()")


@contextmanager
def stopped_process(server: Postgres, backend_type: str) -> Iterator[None]:
    """Stop (SIGSTOP) one of the server's background processes within the context."""
    [(pid,)] = server.sql("SELECT pid FROM pg_catalog.pg_stat_activity WHERE backend_type = %s", [backend_type])
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def changed_settings(server: Postgres, **values: str) -> Iterator[None]:
    """Change settings of a running server within the context."""
    try:
        for name, value in values.items():
            server.sql(f"ALTER SYSTEM SET {name} = '{value}'")
        server.sql("SELECT pg_catalog.pg_reload_conf()")
        [(name, value)] = list(values.items())[-1:]
        wait_for(lambda: server.sql(f"SHOW {name}") == [(value,)], f"{name} = {value}")
        yield
    finally:
        server.sql("ALTER SYSTEM RESET ALL")
        server.sql("SELECT pg_catalog.pg_reload_conf()")


@contextmanager
def password_required(server: Postgres, role: str, password: str) -> Iterator[str]:
    """Create a role that needs a password, by a line at the top of pg_hba.conf; yield its conninfo without one."""
    [(path,)] = server.sql("SHOW hba_file")
    file = Path(path)
    before = file.read_text()
    server.sql(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    try:
        file.write_text(f"host all {role} 127.0.0.1/32 scram-sha-256\n{before}")
        loaded = server.sql("SELECT pg_catalog.pg_conf_load_time()")
        server.sql("SELECT pg_catalog.pg_reload_conf()")
        wait_for(lambda: server.sql("SELECT pg_catalog.pg_conf_load_time()") != loaded, "the file has been reloaded")
        yield f"host=127.0.0.1 port={server.port} dbname=postgres user={role}"
    finally:
        file.write_text(before)
        server.sql("SELECT pg_catalog.pg_reload_conf()")
        server.sql(f"DROP ROLE {role}")
