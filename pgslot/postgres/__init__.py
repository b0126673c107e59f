"""
One connection to one server, on which every wait has a deadline.

Open session.py first; connect.py opens its connection, and pipeline.py runs its statements.
"""
