"""Flags, exit codes and logs of both command line programs. Open flags.py first."""
