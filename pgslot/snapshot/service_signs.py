"""The row of service_signs.sql: by what a managed service may be recognised."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceSigns:
    """What an ordinary PostgreSQL does not have. Names are in alphabetical order."""

    roles: list[str]
    """Roles with names that services give."""
    functions: list[str]
    settings: list[str]
    """Settings that have a value in this session."""
    aurora_processes: bool
    """A process of Aurora's own runs, as far as the role sees the types of processes."""
