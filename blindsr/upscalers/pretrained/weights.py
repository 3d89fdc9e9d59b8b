"""Network weights in safetensors files, the bundled ones and those of `blindsr train`: no pickle, no download."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from blindsr.errors import ConfigError, OutputError, reason_of
from blindsr.upscalers.pretrained.network import ConditionedNetwork, NetworkConfig

__all__ = [
    "BUNDLED", "load_network", "random_network", "save_weights", "shared_network", "training_settings", "weights_file",
]  # fmt: skip

_FOLDER = Path(__file__).parent / "weights"
#: The bundled weights by name: of photographs and dead leaves, and of dead leaves alone.
BUNDLED = {"pretrained": _FOLDER / "photographs.safetensors", "leaves": _FOLDER / "leaves.safetensors"}
_FORMAT = "blindsr-pretrained-2"


def weights_file(name: Path | str | None = None) -> Path:
    """The file of bundled weights, by their name ("pretrained", "leaves"; None is the former), or the path itself."""
    return BUNDLED.get(str(name or "pretrained"), Path(name or ""))


def save_weights(path: Path, weights: dict[str, Tensor], config: dict[str, object]) -> None:
    """Write weights in half precision, with the settings of their training as metadata.

    Args:
        path: File to write, .safetensors.
        weights: Tensors by parameter name.
        config: Settings of the training, JSON-able.

    Raises:
        OutputError: The file cannot be written.
    """
    half = {name: value.detach().to(torch.float16).contiguous() for name, value in weights.items()}
    try:
        path.write_bytes(save(half, {"format": _FORMAT, "config": json.dumps(config)}))
    except OSError as error:
        raise OutputError(f"cannot write the weights to {path}: {reason_of(error)}.") from error


def training_settings(path: Path | None = None) -> dict[str, Any]:
    """The settings that weights were trained with, by name.

    Args:
        path: A checkpoint of `blindsr train`, a name of `BUNDLED`, or settings alone (.json); None is "pretrained".

    Raises:
        ConfigError: The file is missing, damaged, or neither.
    """
    if path is not None and path.suffix == ".json":
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = reason_of(error)
            raise ConfigError(f"the settings of a training must be a JSON file, {path}: {reason}.") from error
        if not isinstance(stored, dict):
            raise ConfigError(
                f"the settings of a training must be a JSON object of names and values; {path} is not. Choose such a "
                "file, or a checkpoint of `blindsr train`."
            )
        return stored
    return _read(weights_file(path))[1]


def _read(source: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(source, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        reason = reason_of(error).removesuffix(f": {source}")  # safetensors repeats the name
        raise ConfigError(f"a checkpoint must be a safetensors file of `blindsr train`, {source}: {reason}.") from error
    if metadata.get("format") != _FORMAT:
        raise ConfigError(f"a checkpoint must have the format {_FORMAT}, {source} has {metadata.get('format')!r}.")
    return weights, dict(json.loads(metadata["config"]))


def load_network(path: Path | None = None, *, device: torch.device | str = "cpu") -> ConditionedNetwork:
    """Load a network, float32, with trainable parameters.

    Args:
        path: A checkpoint of `blindsr train`, or a name of `BUNDLED`; None is "pretrained".
        device: Device of the parameters.

    Raises:
        ConfigError: The file is missing, damaged, or no checkpoint.
    """
    source = weights_file(path)
    weights, config = _read(source)
    # On the "meta" device nothing is initialised, which would draw from the global random generator.
    with torch.device("meta"):
        network = ConditionedNetwork(
            NetworkConfig(
                channels=int(config["channels"]), blocks=int(config["blocks"]), scales=tuple(config["scales"])
            )
        )
    try:
        network.load_state_dict(weights, assign=True)
    except RuntimeError as error:
        raise ConfigError(f"the weights in {source} do not fit its settings: {error}.") from error
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def shared_network(path: Path | None = None, *, device: torch.device | str = "cpu") -> ConditionedNetwork:
    """The same as `load_network` for those who leave the network as it is: a bundled one is loaded once and kept."""
    source = weights_file(path)
    if source in BUNDLED.values():
        return _kept_network(source, torch.device(device))
    return load_network(source, device=device)


@cache
def _kept_network(source: Path, device: torch.device) -> ConditionedNetwork:
    return load_network(source, device=device)


def random_network(seed: int, *, device: torch.device | str = "cpu") -> ConditionedNetwork:
    """A network with random weights whose last layers are zero, so that it returns the Wiener filter's result.

    Args:
        seed: Seed of the weights.
        device: Device of the parameters.
    """
    with torch.device("meta"):
        network = ConditionedNetwork()
    network.to_empty(device="cpu").initialise(torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for tail in (network.tails, network.chroma_tails):
            for parameter in tail.parameters():
                parameter.zero_()
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
