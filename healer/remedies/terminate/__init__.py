"""The remedy that terminates the session whose transaction blocks a slot, if its owner allows. Open remedy.py first."""
