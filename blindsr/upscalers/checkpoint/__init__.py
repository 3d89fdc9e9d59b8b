"""Third-party networks as upscalers: any checkpoint supported by spandrel, made blind by a correction filter."""

from blindsr.upscalers.checkpoint.correction import correct
from blindsr.upscalers.checkpoint.upscaler import CheckpointConfig, CheckpointUpscaler

__all__ = ["CheckpointConfig", "CheckpointUpscaler", "correct"]
