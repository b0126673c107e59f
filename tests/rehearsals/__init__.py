"""
Rehearsals of switchovers, each followed by the real switchover: `python -m tests.rehearsals`, or `make rehearsals`.

scenes.py and scenes_of_settings.py have the situations, switchover.py and steps.py what they share. test_short.py plays
one scene in CI.
"""
