"""kernelgan."""
