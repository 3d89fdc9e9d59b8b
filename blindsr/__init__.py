"""Blind zero-shot super-resolution of one photograph.

KernelGAN or a spectral fit estimates the photograph's blur from itself; ZSSR, trained on it alone, upscales it.

>>> import blindsr
>>> kernel = blindsr.Kernel([[0.25, 0.25], [0.25, 0.25]], 2)

The names below are imported when they are first used: `import blindsr` costs nothing, and torch comes with
the first call that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blindsr.api import estimate_and_upscale, estimate_kernel, upscale
    from blindsr.errors import (
        BlindSRError,
        ConfigError,
        DeviceError,
        DivergenceError,
        ImageError,
        KernelError,
        OutputError,
    )
    from blindsr.kernels import Kernel, KernelEstimate
    from blindsr.kernels.files import read_kernel
    from blindsr.pipelines.result import Upscaled
    from blindsr.pipelines.settings import Settings, preset

__version__ = "0.1.0"

__all__ = [
    "BlindSRError",
    "ConfigError",
    "DeviceError",
    "DivergenceError",
    "ImageError",
    "Kernel",
    "KernelError",
    "KernelEstimate",
    "OutputError",
    "Settings",
    "Upscaled",
    "__version__",
    "estimate_and_upscale",
    "estimate_kernel",
    "preset",
    "read_kernel",
    "upscale",
]

_HOMES = {
    "blindsr.api": ("estimate_and_upscale", "estimate_kernel", "upscale"),
    "blindsr.errors": (
        "BlindSRError",
        "ConfigError",
        "DeviceError",
        "DivergenceError",
        "ImageError",
        "KernelError",
        "OutputError",
    ),
    "blindsr.kernels": ("Kernel", "KernelEstimate"),
    "blindsr.kernels.files": ("read_kernel",),
    "blindsr.pipelines.result": ("Upscaled",),
    "blindsr.pipelines.settings": ("Settings", "preset"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name at its first use (PEP 562)."""
    if name in ("kernels", "sensors"):  # blindsr.kernels.gaussian(…) needs no import of its own
        return import_module(f"blindsr.{name}")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'blindsr' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
