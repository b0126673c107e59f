"""The commands of pg-slot-healer, one module each; `serve.py` is the one that a service manager starts."""
