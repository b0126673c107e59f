"""What the healer can do to a cluster: one folder a remedy. Open base.py first; registry.py lists the remedies."""
