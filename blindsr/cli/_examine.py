"""The facts that `blindsr doctor` shows."""

import importlib.util
import platform
from importlib.metadata import PackageNotFoundError, version

import torch

from blindsr import __version__
from blindsr.pipelines.memory import available_memory
from blindsr.runtime import available_devices, bf16_reason, choose_device, usable_cores

__all__ = ["examine"]

_REQUIRED = ("torch", "numpy", "scipy", "scikit-image", "pillow", "tifffile", "imageio", "click", "rich", "safetensors")
# Name on the package index, name of the import, what it is for.
_EXTRAS = (
    ("imagecodecs", "imagecodecs", "read TIFF files with LZW, JPEG and other compressions"),
    ("pillow-heif", "pillow_heif", "read and write HEIC, as telephones do"),
    ("rawpy", "rawpy", "read the raw files of cameras"),
    ("h5py", "h5py", "read kernels in MATLAB v7.3 files"),
    ("distributed", "distributed", "run a batch on many machines (--executor dask)"),
    ("matplotlib", "matplotlib", "draw the figures of an ablation as PDF and PNG"),
)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not found"


def examine() -> dict[str, dict[str, str]]:
    """Facts by heading and name."""
    return {
        "versions": {"blindsr": __version__, "python": platform.python_version()}
        | {name: _version(name) for name in _REQUIRED},
        "machine": {
            "platform": platform.platform(),
            "cores": f"{usable_cores()} usable; as many threads are used, unless --threads says otherwise",
            "free memory": _memory(),
        },
        "devices": {name: _device(name) for name in available_devices()},
        "extras": {name: _extra(name, module, purpose) for name, module, purpose in _EXTRAS},
    }


def _memory() -> str:
    free = available_memory()
    return "unknown" if free is None else f"{free / 2**30:.1f} GiB"


def _device(name: str) -> str:
    device = choose_device(name)
    pays, reason = bf16_reason(device)
    arithmetic = f"--precision auto is {'bf16' if pays else 'fp32'}: {reason}"
    return f"{torch.cuda.get_device_name(device)}; {arithmetic}" if device.type == "cuda" else arithmetic


def _extra(name: str, module: str, purpose: str) -> str:
    if importlib.util.find_spec(module) is None:
        return f"not found; it would {purpose}"
    return f"{_version(name)}; to {purpose}"
