"""
Queries the nodes of a cluster and returns what they showed as immutable facts, without judging them.

Start with model.py for the snapshots, and cluster.py for how they are collected; queries/ holds the SQL.
"""
