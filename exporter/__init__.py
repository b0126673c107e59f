"""Observes PostgreSQL's replication slots; never writes to a database."""

__version__ = "0.1.0"
