"""Servers whose volumes are filled until PostgreSQL stops, and what the alerts predicted of it."""
