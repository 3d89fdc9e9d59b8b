"""`blindsr methods` and `blindsr doctor`: the registered methods, and what this machine has."""

import json
from typing import Any

import click

from blindsr.cli.options import GroupedCommand

__all__ = ["doctor", "methods"]

_REQUIRED = (
    "torch", "numpy", "scipy", "scikit-image", "pillow", "tifffile", "imagecodecs", "click", "rich", "safetensors",
)  # fmt: skip
# Name on the package index, name of the module, what it is for.
_EXTRAS = (
    ("pillow-heif", "pillow_heif", "read and write HEIC, the format of smartphones"),
    ("rawpy", "rawpy", "read raw files of cameras"),
    ("h5py", "h5py", "read kernels in MATLAB v7.3 files"),
    ("distributed", "distributed", "run a batch on many machines (--executor dask)"),
    ("matplotlib", "matplotlib", "draw the figures of an ablation as PDF and PNG"),
)


@click.command(
    "methods",
    cls=GroupedCommand,
    short_help="List the kernel estimators and the upscalers.",
    epilog="Example: blindsr methods",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def methods(as_json: bool) -> None:
    """List the kernel estimators and the upscalers with one line about each, those of other packages included."""
    from blindsr.registry import ESTIMATORS, UPSCALERS

    tables = {
        title: {name: registry.describe(name) for name in registry.names()}
        for title, registry in (("estimators", ESTIMATORS), ("upscalers", UPSCALERS))
    }
    if as_json:
        click.echo(json.dumps(tables, ensure_ascii=False))
        return
    for title, described in tables.items():
        click.echo(f"{title} (--{title.removesuffix('s')})")
        width = max(map(len, described)) + 2
        for name, text in described.items():
            click.echo(f"  {name:<{width}}{text}")


@click.command(
    "doctor",
    cls=GroupedCommand,
    short_help="Show versions, devices and memory of this machine.",
    epilog="Example: blindsr doctor --json",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def doctor(as_json: bool) -> None:
    """Show versions, devices, cores, memory, the arithmetic that is used here, and the optional packages."""
    facts = _examine()
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False))
        return
    for heading, rows in facts.items():
        click.echo(heading)
        for name, value in rows.items():
            click.echo(f"  {name:<14}{value}")


def _examine() -> dict[str, dict[str, str]]:
    """Facts by heading and name."""
    import platform

    from blindsr import __version__
    from blindsr.pipelines.memory import available_memory
    from blindsr.runtime import available_devices, default_threads, usable_cores

    free = available_memory()
    return {
        "versions": {"blindsr": __version__, "python": platform.python_version()}
        | {name: _version(name) for name in _REQUIRED},
        "machine": {
            "platform": platform.platform(),
            "cores": f"{usable_cores()} usable",
            "threads": f"{default_threads()} without --threads: OMP_NUM_THREADS if it is set, else one per core",
            "free memory": "unknown" if free is None else f"{free / 2**30:.1f} GiB",
        },
        "devices": {name: _device(name) for name in available_devices()},
        "extras": {name: _extra(name, module, purpose) for name, module, purpose in _EXTRAS},
    }


def _version(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:
        return "not found"


def _device(name: str) -> str:
    import torch

    from blindsr.runtime import bf16_reason, choose_device

    device: Any = choose_device(name)
    is_native, reason = bf16_reason(device)
    arithmetic = f"--precision auto is {'bf16' if is_native else 'fp32'}: {reason}"
    return f"{torch.cuda.get_device_name(device)}; {arithmetic}" if device.type == "cuda" else arithmetic


def _extra(name: str, module: str, purpose: str) -> str:
    import importlib.util

    if importlib.util.find_spec(module) is None:
        return f"not found; needed to {purpose}"
    return f"{_version(name)}; to {purpose}"
