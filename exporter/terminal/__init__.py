"""What `status` and `explain` print: a report of pgslot.status, drawn by rich. Start with screen.py."""
