"""The learned start of ZSSR: a network that takes the kernel as an input, trained on dead leaves alone."""
