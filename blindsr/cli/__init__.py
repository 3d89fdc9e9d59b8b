"""The command line: the only room that knows terminals. Each command is a file; `_*.py` is what they share."""
