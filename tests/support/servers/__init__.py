"""Real servers and programs as processes on loopback; start with `stack.py`."""
