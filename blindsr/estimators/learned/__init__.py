"""Kernel estimation by a network that was trained on degraded photographs: from measured features to a kernel."""

from blindsr.estimators.learned.estimator import LearnedConfig, LearnedEstimator

__all__ = ["LearnedConfig", "LearnedEstimator"]
