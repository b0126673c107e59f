"""Shell completion of a program's command line; open command.py first. Each shell has a file."""
