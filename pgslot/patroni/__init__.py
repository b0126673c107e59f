"""Cluster members from Patroni's REST API. discovery.py polls it, client.py fetches, and answer.py parses."""
