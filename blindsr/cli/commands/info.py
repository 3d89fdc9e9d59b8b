"""`blindsr methods` and `blindsr doctor`: the registered methods, and what this machine has."""

import json
from collections.abc import Mapping
from typing import Any

import click

from blindsr.cli.options import command

__all__ = ["doctor", "methods"]

_REQUIRED = (
    "torch", "numpy", "scipy", "scikit-image", "pillow", "tifffile", "imagecodecs", "simplejpeg", "click", "rich",
    "safetensors",
)  # fmt: skip
_EXTRAS = {
    "astropy": "read and write FITS, the format of telescopes",
    "pillow-heif": "read and write HEIC, the format of smartphones",
    "rawpy": "read raw files of cameras",
    "h5py": "read kernels in MATLAB v7.3 files",
    "spandrel": "run networks of other programs (--upscaler checkpoint:FILE)",
    "distributed": "run a batch on many machines (--executor dask)",
    "matplotlib": "draw the figures of an ablation as PDF and PNG",
    "gradio": "open the page in the browser (blindsr app)",
    "napari": "enlarge layers in the viewer napari",
}
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


@command("methods", "List the kernel estimators and the upscalers.", "methods", _JSON)
def methods(as_json: bool) -> None:
    """List the kernel estimators and the upscalers with one line about each, those of other packages included."""
    from blindsr.registry import ESTIMATORS, UPSCALERS

    tables = {f"{r.kind}s": {name: r.describe(name) for name in r.names()} for r in (ESTIMATORS, UPSCALERS)}
    _print(tables, as_json=as_json, headings={title: f"{title} (--{title.removesuffix('s')})" for title in tables})


@command("doctor", "Show versions, devices and memory of this machine.", "doctor --json", _JSON)
def doctor(as_json: bool) -> None:
    """Show versions, devices, cores, memory, the arithmetic that is used here, and the optional packages."""
    _print(_examine(), as_json=as_json)


def _print(
    tables: Mapping[str, Mapping[str, str]], *, as_json: bool, headings: Mapping[str, str] | None = None
) -> None:
    if as_json:
        click.echo(json.dumps(tables, ensure_ascii=False))
        return
    for title, rows in tables.items():
        click.echo((headings or {}).get(title, title))
        width = max(14, 1 + max(map(len, rows), default=0))
        for name, value in rows.items():
            click.echo(f"  {name:<{width}}{value}")


def _examine() -> dict[str, dict[str, str]]:
    """Facts by heading and name."""
    import platform

    from blindsr import __version__
    from blindsr.cores import default_threads, usable_cores
    from blindsr.pipelines.memory import available_memory
    from blindsr.runtime import available_devices

    free = available_memory()
    extras = {name: (_version(name), purpose) for name, purpose in _EXTRAS.items()}
    return {
        "versions": {"blindsr": __version__, "python": platform.python_version()}
        | {name: _version(name) or "not found" for name in _REQUIRED},
        "machine": {
            "platform": platform.platform(),
            "cores": f"{usable_cores()} usable",
            "threads": f"{default_threads()} without --threads: OMP_NUM_THREADS if it is set, else one per free core",
            "free memory": "unknown" if free is None else f"{free / 2**30:.1f} GiB",
        },
        "devices": {name: _device(name) for name in available_devices()},
        "extras": {
            name: f"{version}; to {purpose}" if version else f"not found; needed to {purpose}"
            for name, (version, purpose) in extras.items()
        },
    }


def _version(name: str) -> str:
    """The version of an installed package; empty if there is none."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _device(name: str) -> str:
    import torch

    from blindsr.runtime import bf16_reason, choose_device

    device: Any = choose_device(name)
    is_native, reason = bf16_reason(device)
    arithmetic = f"--precision auto is {'bf16' if is_native else 'fp32'}: {reason}"
    return f"{torch.cuda.get_device_name(device)}; {arithmetic}" if device.type == "cuda" else arithmetic
