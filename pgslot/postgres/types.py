"""PostgreSQL's LSNs, transaction ids and identifiers in Python."""


def parse_lsn(lsn: str) -> int:
    """Return an LSN such as 16/B374D848 in bytes since 0/0."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def xid_precedes(first: int, second: int) -> bool:
    """Return whether `first` is older, modulo 2^32, as PostgreSQL's TransactionIdPrecedes() does."""
    return (first - second) % 2**32 >= 2**31


def xid_distance(first: int, second: int) -> int:
    """Return how many xids `first` is newer than `second`, modulo 2^32; negative if it is older."""
    return (first - second + 2**31) % 2**32 - 2**31


def format_lsn(position: int) -> str:
    """Return bytes since 0/0 as an LSN, such as 16/B374D848."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:08X}"


def quote_identifier(name: str) -> str:
    """Return the identifier in double quotes, for SQL."""
    return '"' + name.replace('"', '""') + '"'


def quote_literal(text: str) -> str:
    """Return the text as a string constant of SQL, on one line, whatever standard_conforming_strings says."""
    quoted = text.replace("\\", "\\\\").replace("'", "''")
    quoted = "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
    return f"E'{quoted}'" if "\\" in quoted else f"'{quoted}'"
