"""The configuration file pgslot.yml. model.py has the result; loader.py reads it, and reload.py reads it again."""
