"""The pretrained, kernel-conditioned network, and its adaptation to one photograph."""

from blindsr.upscalers.pretrained.config import PretrainedConfig
from blindsr.upscalers.pretrained.upscaler import PretrainedUpscaler

__all__ = ["PretrainedConfig", "PretrainedUpscaler"]
