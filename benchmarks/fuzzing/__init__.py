"""Broken files for every reader: seeds, mutations that know the formats, and what counts as a failure."""
