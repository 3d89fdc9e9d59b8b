"""Evaluation against ground truth: metrics, test sets, ablations of estimators and upscalers, reports."""

from blindsr.evaluation import metrics as metrics
