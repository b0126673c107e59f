"""
The core that the exporter and the healer share, from the configuration file to the diagnosis.

One package per step: config -> postgres -> snapshot -> diagnosis -> exposition; patroni lists members, httpserver
serves, cli has flags and logs.
"""

__version__ = "0.1.0"
