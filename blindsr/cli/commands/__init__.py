"""The commands, one file for each or for each pair that belongs together."""
