"""The services of docker-compose.yml without containers; see `native.py`."""
