"""The machine: devices, threads, and where bfloat16 pays.

Chosen once, at the top; everything below follows its input.
"""

import contextlib
import ctypes
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import nn

from blindsr.cores import default_threads
from blindsr.errors import ConfigError, DeviceError, DivergenceError

__all__ = [
    "Precision", "available_devices", "bf16_reason", "check_finite", "choose_device", "choose_dtype", "frozen_network",
    "prepare_process", "release_memory", "seeded_generator",
]  # fmt: skip

M = TypeVar("M", bound=nn.Module)
Precision = Literal["auto", "fp32", "bf16"]
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_KEPT = 2**30  # bytes


def available_devices() -> list[str]:
    """Names that `choose_device` accepts here, the best first."""
    names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def choose_device(name: str | torch.device = "auto") -> torch.device:
    """Turn "auto", "cpu", "cuda", "cuda:N", "mps" or a device into a device that exists.

    Raises:
        DeviceError: The device is not on this machine, or the name is unknown.
    """
    here = available_devices()
    name = str(name) if isinstance(name, torch.device) else name
    if name == "auto":
        return torch.device(here[0])
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in here:
        lacking = ", and this PyTorch is built without CUDA" if "cuda" in wanted and torch.version.cuda is None else ""
        raise DeviceError(
            f"the device must be auto or one that this machine has ({', '.join(here)}), got {name!r}{lacking}; use "
            f"--device {here[0]} (in Python device={here[0]!r})."
        )
    return torch.device(wanted)


def prepare_process(threads: int | None) -> int:
    """Make the process a worker of ours: so many threads for torch (None: `default_threads`), and freed memory kept.

    glibc gives every large tensor back to the system when it is freed and asks for zeroed pages for the next: a third
    of the processor time of a large photograph. Up to a gigabyte is kept instead; `release_memory` gives it back. What
    a program that imports blindsr does with its memory is its own affair, so nothing but the command calls this.

    Returns:
        The number of threads.

    Raises:
        ConfigError: `threads` is below 1.
    """
    if threads is not None and threads < 1:
        raise ConfigError(f"threads must be 1 or more, got {threads}.")
    count = default_threads() if threads is None else threads
    torch.set_num_threads(count)
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_M_MMAP_THRESHOLD, _KEPT)
            library.mallopt(_M_TRIM_THRESHOLD, _KEPT)
    return count


def bf16_reason(device: torch.device) -> tuple[bool, str]:
    """Whether bfloat16 arithmetic is native and fast on `device`, and the fact that decides it."""
    if device.type == "cuda":
        capable = torch.cuda.get_device_capability(device)[0] >= 8
        return (capable, "CUDA compute capability 8 or newer" if capable else "CUDA compute capability below 8")
    if device.type == "cpu":
        path = Path("/proc/cpuinfo")
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
        flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
        for flag in ("amx_bf16", "avx512_bf16"):
            if flag in flags:
                return True, f"the processor has {flag}"
        return False, "the processor has neither AMX nor AVX512-BF16"
    return False, f"not used on {device.type}"


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of the heavy arithmetic: bfloat16 where it is native, float32 elsewhere or when asked.

    Raises:
        ConfigError: `precision` is none of "auto", "fp32", "bf16".
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"precision must be auto, fp32 or bf16, got {precision!r}.")
    if precision == "auto":
        return torch.bfloat16 if bf16_reason(device)[0] else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def release_memory() -> None:
    """Give freed memory back to the system: glibc keeps what was cut into pieces, a gigabyte after some tiles."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # musl has no such call, and no such habit
            ctypes.CDLL(None).malloc_trim(0)


def seeded_generator(seed: int) -> torch.Generator:
    """A random generator on the CPU, so that every device draws the same numbers; the global one is never used."""
    return torch.Generator().manual_seed(seed)


def frozen_network(make: Callable[[], M], weights: Mapping[str, torch.Tensor]) -> M:
    """A network with these weights, in float32 on the CPU, for inference alone.

    Args:
        make: Makes the network; its own weights are not initialised, which would draw from torch's global generator.
        weights: Its weights by name.
    """
    with torch.device("meta"):
        network = make()
    network.load_state_dict({name: value.float() for name, value in weights.items()}, assign=True)
    return network.requires_grad_(False).eval()


def check_finite(loss: float, step: int, stage: str) -> None:
    """Stop a training that diverged.

    Raises:
        DivergenceError: `loss` is NaN or infinite.
    """
    if not math.isfinite(loss):
        raise DivergenceError(
            f"{stage}: the loss must stay finite, it was {loss} at step {step}; "
            "try a lower learning_rate, or the precision fp32 (--precision fp32 on the command line)."
        )
