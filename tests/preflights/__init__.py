"""What a preflight says of a creation, and what the real creation then does."""
