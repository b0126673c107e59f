"""
Episodes: one at a time for each cluster and remedy, from the first alert to the outcome of its last slot.

Open manager.py first: it starts, joins and stops them. loop.py is the loop of one episode, journal.py what it reports.
"""
