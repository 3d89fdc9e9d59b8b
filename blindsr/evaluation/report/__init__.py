"""Reports: one self-contained HTML file that compares images, kernels and metrics, and needs no network."""
