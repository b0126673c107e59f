"""Both programs under everything that may leak, grow or crash, all at once. Open `__main__.py` first."""
