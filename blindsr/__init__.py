"""blindsr."""
