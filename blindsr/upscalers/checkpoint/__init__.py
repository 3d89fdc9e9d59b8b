"""Networks of other people as upscalers: any checkpoint that spandrel knows, made blind by a correction filter."""

from blindsr.upscalers.checkpoint.correction import correct
from blindsr.upscalers.checkpoint.upscaler import CheckpointConfig, CheckpointUpscaler

__all__ = ["CheckpointConfig", "CheckpointUpscaler", "correct"]
