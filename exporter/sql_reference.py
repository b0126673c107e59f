"""`pg-slot-exporter sql`: every query as each supported version of PostgreSQL gets it."""

from pgslot.snapshot.identity import IDENTITY
from pgslot.snapshot.queries import QUERIES, SLOT_USERS, SUPPORTED, WAL_QUERIES


def sql_reference() -> str:
    """Return the queries; versions that get the same text share it."""
    parts = [f"-- whose server it is, once for each connection: all versions\n{IDENTITY};\n"]
    for query in (*QUERIES, *WAL_QUERIES, SLOT_USERS):
        versions: dict[str, list[int]] = {}
        for major in SUPPORTED:
            versions.setdefault(query.sql(major), []).append(major)
        for sql, majors in versions.items():
            parts.append(f"-- {query.name}: PostgreSQL {', '.join(map(str, majors))}\n{sql};\n")
    return "\n".join(parts)
