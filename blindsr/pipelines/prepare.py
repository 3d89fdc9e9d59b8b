"""From an image, a kernel and settings to a super-resolution that is ready to be applied."""

from dataclasses import replace

from blindsr.errors import ConfigError
from blindsr.events import Listener
from blindsr.kernels import Kernel
from blindsr.pipelines.passes import FIRST_PASS, join, sample_of, split_kernel
from blindsr.pipelines.settings import Settings
from blindsr.zssr.config import PaperZSSRConfig
from blindsr.zssr.prepared import Prepared
from blindsr.zssr.source import Source
from blindsr.zssr.start.upscaler import prepare_from_start

__all__ = ["prepare"]


def prepare(source: Source, kernel: Kernel, settings: Settings, *, listener: Listener) -> Prepared:
    """Train what the settings ask for; its cost does not grow with the image.

    Raises:
        ConfigError: The published ZSSR is asked for: it sees whole images alone.
        ImageError, KernelError, DivergenceError: As `blindsr.pipelines.known.upscale`.
    """
    if isinstance(settings.zssr, PaperZSSRConfig):
        raise ConfigError("the published ZSSR needs the whole image in memory; use another preset for large images.")
    if kernel.scale in FIRST_PASS:
        one, two = split_kernel(kernel)
        first = prepare(source, one, settings, listener=listener)
        sharp = sample_of(first)
        # What the first pass has made is free of noise.
        clean = replace(settings, zssr=replace(settings.zssr, noise_sigma=0.0))
        second = prepare(sharp, two, clean, listener=listener)
        return join(first, second, kernel, kernel_error=settings.zssr.kernel_error or 0.0)
    return prepare_from_start(source, kernel, settings.zssr, listener=listener)
