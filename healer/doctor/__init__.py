"""`pg-slot-healer doctor`: the whole chain, checked link by link."""
