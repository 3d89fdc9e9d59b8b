"""What compression has done to a photograph, as a level of noise."""

from dataclasses import replace

from torch import Tensor

from blindsr.image_io.jpeg import jpeg_noise
from blindsr.ops.noise import estimate_noise
from blindsr.pipelines.job import Job
from blindsr.pipelines.settings import Settings
from blindsr.zssr.start.config import StartConfig
from blindsr.zssr.start.upscaler import LEAST_NOISE_SIDE, told_noise

__all__ = ["with_compression"]


def with_compression(job: Job, settings: Settings, image: Tensor) -> Settings:
    """Settings that treat what a JPEG's quantisation has added as noise, unless a noise level was asked for.

    An estimate from the picture cannot see it: compression has smoothed the flat areas that the estimate looks at.

    Args:
        job: The job on the file; what is found is added to its notes.
        settings: Of the run.
        image: The picture, or windows of it, (B, C, h, w).
    """
    if not isinstance(settings.zssr, StartConfig) or settings.zssr.noise_sigma is not None:
        return settings
    compression = jpeg_noise(job.source)
    if compression <= 0:
        return settings
    measured = estimate_noise(image) if min(image.shape[-2:]) >= LEAST_NOISE_SIDE else 0.0
    job.notes.append(f"JPEG compression of about {255 * compression:.1f} grey levels is treated as noise.")
    told = max(compression, told_noise(measured, settings.zssr))
    return replace(settings, zssr=replace(settings.zssr, noise_sigma=told))
