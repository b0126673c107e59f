"""Both programs' pages in a real browser: `make pages`."""
