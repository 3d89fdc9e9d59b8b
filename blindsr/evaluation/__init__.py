"""Evaluation against ground truth: metrics, test sets, ablations of estimators and upscalers, reports."""
