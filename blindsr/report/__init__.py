"""Reports: one self-contained HTML file that shows results side by side, without a network."""
