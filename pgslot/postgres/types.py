"""PostgreSQL's own types in Python: log sequence numbers, transaction ids, identifiers."""


def parse_lsn(lsn: str) -> int:
    """Return an LSN's text as bytes since 0/0."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def xid_precedes(first: int, second: int) -> bool:
    """Return whether one 32-bit xid is older than another, as PostgreSQL's TransactionIdPrecedes does: modulo 2^32."""
    return (first - second) % 2**32 >= 2**31


def quote_identifier(name: str) -> str:
    """Return an identifier as it stands in SQL, in double quotes."""
    return '"' + name.replace('"', '""') + '"'
