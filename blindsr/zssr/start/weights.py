"""The weights that come with blindsr, and files like them: read lazily, offline, and without pickle."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from blindsr.errors import ConfigError, OutputError
from blindsr.zssr.start.network import StartNetwork

__all__ = ["SHIPPED", "load_start", "save_start", "training_of", "untrained_start"]

SHIPPED = Path(__file__).parent / "weights" / "leaves.safetensors"
_FORMAT = "blindsr-start-1"


def save_start(path: Path, weights: dict[str, Tensor], config: dict[str, object]) -> None:
    """Write averaged weights in half precision, with the settings of their training.

    Raises:
        OutputError: The file cannot be written.
    """
    half = {name: value.detach().to(torch.float16).contiguous() for name, value in weights.items()}
    try:
        path.write_bytes(save(half, {"format": _FORMAT, "config": json.dumps(config)}))
    except OSError as error:
        raise OutputError(f"cannot write the start to {path}: {error}.") from error


def training_of(path: Path | None = None) -> dict[str, Any]:
    """The settings that a start was trained with, by name; None is the one that comes with blindsr.

    Args:
        path: A start, or settings alone (.json), as they lie beside the weights that come along.

    Raises:
        ConfigError: The file is missing, damaged, or neither.
    """
    if path is not None and path.suffix == ".json":
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"settings of a training must be a JSON file, {path}: {error}.") from error
        if not isinstance(stored, dict):
            raise ConfigError(f"settings of a training must be names and values, {path} has none.")
        return stored
    return _read(SHIPPED if path is None else path)[1]


def _read(source: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(source, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"a start must be a safetensors file of `blindsr train-start`, {source}: {error}.") from error
    if metadata.get("format") != _FORMAT:
        raise ConfigError(f"a start must have the format {_FORMAT}, {source} has {metadata.get('format')!r}.")
    return weights, dict(json.loads(metadata["config"]))


def load_start(path: Path | None = None, *, device: torch.device | str = "cpu") -> StartNetwork:
    """Load a start network, float32, its parameters trainable.

    Args:
        path: A file of `blindsr train-start`; None is the one that comes with blindsr.
        device: Where to.

    Raises:
        ConfigError: The file is missing, damaged, or no start.
    """
    source = SHIPPED if path is None else path
    weights, config = _read(source)
    network = StartNetwork(
        channels=int(config["channels"]), blocks=int(config["blocks"]), scales=tuple(config["scales"])
    )
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ConfigError(f"the weights in {source} do not fit its settings: {error}.") from error
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def untrained_start(seed: int, *, device: torch.device | str = "cpu") -> StartNetwork:
    """A start that has learned nothing: random weights, zero in the last layers: it answers with the Wiener filter.

    Args:
        seed: Of the weights.
        device: Where to.
    """
    network = StartNetwork()
    network.initialise(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for name, parameter in network.tails.named_parameters():
            if name.endswith("weight"):
                parameter.zero_()
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
