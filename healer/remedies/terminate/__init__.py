"""The remedy that ends the session whose transaction blocks a slot, by its owner's rules. Open remedy.py first."""
