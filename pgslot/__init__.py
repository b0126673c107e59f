"""What the exporter and the healer share: from the configuration file to the diagnosis."""

__version__ = "0.1.0"
