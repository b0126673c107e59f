"""An hour of load on real servers, for the diagnosis of retention; see `__main__.py`."""
