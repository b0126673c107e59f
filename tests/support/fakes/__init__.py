"""Servers with canned answers, and models of PostgreSQL."""
