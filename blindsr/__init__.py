"""Blind super-resolution of photographs.

The blur of a photograph is estimated from the photograph itself (KernelGAN, a spectral fit, and others), and a network
conditioned on that blur, if wanted adapted to the photograph, upscales it (a pretrained network, ZSSR, and others).

>>> import blindsr
>>> kernel = blindsr.Kernel([[0.25, 0.25], [0.25, 0.25]], 2)

The names below are imported when they are first used: `import blindsr` costs nothing, and torch is loaded by the first
call that needs it.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from blindsr._version import __version__

if TYPE_CHECKING:
    from blindsr import kernels, sensors
    from blindsr.api import (
        Result,
        SuperResolver,
        degrade,
        estimate_and_upscale,
        estimate_kernel,
        list_estimators,
        list_upscalers,
        upscale,
    )
    from blindsr.batch.run import BatchResult, upscale_files
    from blindsr.errors import (
        BlindSRError,
        ConfigError,
        DeviceError,
        DivergenceError,
        ImageError,
        KernelError,
        OutputError,
    )
    from blindsr.evaluation import metrics
    from blindsr.kernels import Kernel, KernelEstimate, KernelStack
    from blindsr.kernels.files import read_kernel
    from blindsr.pipelines.files import FileResult, estimate_file_kernel, upscale_file
    from blindsr.settings import Settings, preset
    from blindsr.upscalers.base import Degradation

__all__ = [
    "BatchResult",
    "BlindSRError",
    "ConfigError",
    "Degradation",
    "DeviceError",
    "DivergenceError",
    "FileResult",
    "ImageError",
    "Kernel",
    "KernelError",
    "KernelEstimate",
    "KernelStack",
    "OutputError",
    "Result",
    "Settings",
    "SuperResolver",
    "__version__",
    "degrade",
    "estimate_and_upscale",
    "estimate_file_kernel",
    "estimate_kernel",
    "kernels",
    "list_estimators",
    "list_upscalers",
    "metrics",
    "preset",
    "read_kernel",
    "sensors",
    "upscale",
    "upscale_file",
    "upscale_files",
]

_MODULES = {"kernels": "blindsr.kernels", "metrics": "blindsr.evaluation.metrics", "sensors": "blindsr.sensors"}
_HOMES = {
    "blindsr.api": (
        "Result",
        "SuperResolver",
        "degrade",
        "estimate_and_upscale",
        "estimate_kernel",
        "list_estimators",
        "list_upscalers",
        "upscale",
    ),
    "blindsr.batch.run": ("BatchResult", "upscale_files"),
    "blindsr.errors": (
        "BlindSRError",
        "ConfigError",
        "DeviceError",
        "DivergenceError",
        "ImageError",
        "KernelError",
        "OutputError",
    ),
    "blindsr.kernels": ("Kernel", "KernelEstimate", "KernelStack"),
    "blindsr.kernels.files": ("read_kernel",),
    "blindsr.pipelines.files": ("FileResult", "estimate_file_kernel", "upscale_file"),
    "blindsr.settings": ("Settings", "preset"),
    "blindsr.upscalers.base": ("Degradation",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name at its first use (PEP 562)."""
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name not in _HOME_OF:
        raise AttributeError(f"module 'blindsr' has no attribute {name!r}")
    value: object = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
