"""Checkpoints of other people's networks, read without running code from them, and their networks, by spandrel."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from blindsr.errors import ConfigError

__all__ = ["load_network", "load_state"]

_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
_INSTALL = "pip install 'blindsr[networks]'"


def load_state(path: Path) -> dict[str, Any]:
    """The tensors of a checkpoint by name; a dictionary of dictionaries where the file has one (`params_ema`).

    A .safetensors file cannot run code; others are read with torch's `weights_only`, which refuses whatever is neither
    a tensor nor a plain value.

    Raises:
        ConfigError: The file is missing, damaged, of another kind, or holds more than tensors and plain values.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"a checkpoint must be a file of the kind {', '.join(_SUFFIXES)}, got {path}.")
    try:
        if path.suffix.lower() == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ConfigError(
            f"a checkpoint may hold tensors and plain values only, {path} holds more, or is damaged; convert it to "
            ".safetensors with the program that made it."
        ) from error
    except (OSError, SafetensorError, RuntimeError, EOFError, ValueError) as error:
        raise ConfigError(f"the checkpoint {path} cannot be read: {' '.join(str(error).split())}.") from error
    if not isinstance(state, dict):
        raise ConfigError(f"a checkpoint must hold tensors by name, {path} holds a {type(state).__name__}.")
    return state


def load_network(path: Path, second: Path | None = None, share: float = 0.0) -> Any:  # noqa: ANN401
    """The network of a checkpoint, or of the interpolated weights of two (Wang et al., ESRGAN, ECCVW 2018, §3.3).

    Args:
        path: A checkpoint.
        second: Another checkpoint of the same network.
        share: Share of the second checkpoint's weights, 0 to 1.

    Returns:
        spandrel's `ImageModelDescriptor`, in float32 and evaluation mode.

    Raises:
        ConfigError: spandrel is not installed, a file cannot be used, the architecture is unknown or does not enlarge,
            or the two checkpoints are of different networks.
    """
    states = [load_state(file) for file in (path, second) if file is not None]
    spandrel = _spandrel()
    states = [spandrel.canonicalize_state_dict(state) for state in states]
    state = states[0] if second is None else _interpolated(states[0], states[1], share, (path, second))
    try:
        with torch.random.fork_rng(devices=[]):  # the networks' constructors draw from the global generator
            model = spandrel.MAIN_REGISTRY.load(state)
    except spandrel.UnsupportedModelError as error:
        raise ConfigError(
            f"the network of {path} is none of the architectures that spandrel {spandrel.__version__} knows."
        ) from error
    except (RuntimeError, KeyError, ValueError, AssertionError) as error:
        raise ConfigError(f"the weights in {path} do not fit their network: {' '.join(str(error).split())}.") from error
    if not isinstance(model, spandrel.ImageModelDescriptor) or model.scale < 2:
        raise ConfigError(
            f"the upscaler checkpoint needs a network that enlarges, {path} has {model.architecture.name}."
        )
    if model.input_channels not in (1, 3) or model.output_channels != model.input_channels:
        raise ConfigError(
            f"the upscaler checkpoint needs a network of one or three channels, {path} has {model.input_channels} in "
            f"and {model.output_channels} out."
        )
    return model.float().eval()


def _interpolated(
    first: dict[str, Tensor], second: dict[str, Tensor], share: float, paths: tuple[Path, Path]
) -> dict[str, Tensor]:
    shapes = [{name: value.shape for name, value in state.items()} for state in (first, second)]
    if shapes[0] != shapes[1]:
        raise ConfigError(f"two checkpoints must be of one network, {paths[0]} and {paths[1]} have other tensors.")
    return {
        name: torch.lerp(value, second[name].to(value), share) if value.is_floating_point() else value
        for name, value in first.items()
    }


def _spandrel() -> Any:  # noqa: ANN401
    try:
        with _without_torchvision():
            import spandrel
    except ImportError as error:
        raise ConfigError(f"the upscaler checkpoint needs spandrel ({error}); install it with {_INSTALL}.") from error
    return spandrel


@contextmanager
def _without_torchvision() -> Iterator[None]:
    """Let spandrel be imported where torchvision is not installed.

    It imports all architectures at once, and two that do not super-resolve (inpainting and faces) take three names from
    torchvision. For the time of the import these names exist, and do nothing.
    """
    if "spandrel" in sys.modules or find_spec("torchvision") is not None:
        yield
        return
    names = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")
    modules = {name: ModuleType(name) for name in names}
    for needed in ("InterpolationMode", "rotate", "normalize"):
        setattr(modules[names[-1]], needed, None)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in names:
            sys.modules.pop(name, None)
