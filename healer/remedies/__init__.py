"""What the healer can do for a slot: one folder per remedy. Open base.py first; registry.py lists the remedies."""
