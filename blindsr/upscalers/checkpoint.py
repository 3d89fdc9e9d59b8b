"""Third-party networks as upscalers, by spandrel; a correction filter stands for the kernel of the image.

Checkpoints are read without running code from them. The filter: an LR image becomes what bicubic downscaling would have
made of the same HR image.

Abu Hussein, Tirer, Giryes, "Correction Filter for Single Image Super-Resolution: Robustifying Off-the-Shelf Deep
Super-Resolvers", CVPR 2020, arXiv:1912.00157, §4. With the downscaling y = (x ⋆ k)↓ that was made, the wanted one
(x ⋆ r)↓ by the bicubic kernel r, and HR images x = Rᵀc that the bicubic kernel spans, y is (k ⋆ r)↓ * c and the wanted
image (r ⋆ r)↓ * c, so that on the Fourier grid of the LR image the filter is the quotient

    h = A / B,   A = (r ⋆ r)↓,   B = (k ⋆ r)↓.

Regularised by the noise N, with c of the power that makes the wanted image one of a photograph (P_r), it is the linear
estimate of least mean square error under this model of x:

    h = A B* / (|B|² + N |A|² / P_r).

The model is narrow: where the kernel is anisotropic, its aliased parts cancel in B. The same estimate for HR images
whose frequencies are independent and have the power P ∝ f^−α of photographs is

    h = (Σ P R K*) / (Σ P |K|² + N),   sums over the s² frequencies that sampling folds onto each other,

and is nearer to the truth by 0.1 to 0.4 dB for round kernels and by 2 to 4 dB for elongated ones
(docs/method/methods-of-the-field.md).
"""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from types import ModuleType
from typing import Any, ClassVar, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from blindsr.errors import ConfigError, reason_of
from blindsr.events import Listener, StageDone, StageStarted, ignore
from blindsr.kernels import Kernel, bicubic, is_bicubic
from blindsr.ops.color import from_planes, to_planes
from blindsr.ops.geometry import pad_symmetric
from blindsr.ops.wiener import FLOORS, WienerFilter, transfer
from blindsr.ops.windows import Source
from blindsr.registry import check_setting
from blindsr.upscalers.base import Degradation, TiledModel, check_size
from blindsr.upscalers.tiling import run_tiled, support_radius

__all__ = [
    "CheckpointConfig", "CheckpointUpscaler", "Correction", "correct", "correction_radius", "correction_spectrum",
    "load_network", "load_state",
]  # fmt: skip

STAGE = "checkpoint"
_SUFFIXES = (".safetensors", ".pth", ".pt", ".ckpt")
_INSTALL = "pip install 'blindsr[networks]'"
Correction = Literal["natural", "paper", "none"]
_MARGIN = 24  # LR pixels of mirrored border, in which the wrap-around of the transform decays
_MAX_RADIUS = 64  # LR pixels
_TAIL = 0.02  # sum of the absolute filter weights that may lie outside of the radius


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """Settings of a network of another program.

    Raises:
        ConfigError: A field is out of its bounds.
    """

    file: Path | None = None  # the checkpoint: .safetensors, or .pth, .pt, .ckpt of tensors; needed
    second_file: Path | None = None  # a second checkpoint of the same network, whose weights are mixed in
    second_share: float = 0.5  # share of the second checkpoint's weights
    # Model of the correction filter that stands for other kernels than the bicubic one: natural, paper, or none.
    correction: Correction = "natural"
    halo: int = 16  # LR pixels around a tile that the network sees as well
    max_tile: int = 192  # LR pixels, side of the tiles in which the network is applied

    def __post_init__(self) -> None:
        """Check the bounds."""
        check_setting(self, STAGE, "second_share", 0 <= self.second_share <= 1, "from 0 to 1")
        known = get_args(Correction)
        check_setting(self, STAGE, "correction", self.correction in known, f"one of {', '.join(known)}")
        if self.halo < 0 or self.max_tile < 16:
            raise ConfigError(
                f"checkpoint.halo must be 0 or more and max_tile 16 or more, got {self.halo} and {self.max_tile}."
            )


class CheckpointUpscaler:
    """A network of another program (spandrel), its input corrected for the kernel (Abu Hussein et al., CVPR 2020).

    Args:
        config: Settings; its `file` is needed.
    """

    name: ClassVar[str] = "checkpoint"
    config_type: ClassVar[type] = CheckpointConfig
    scales: ClassVar[tuple[int, ...]] = (2, 3, 4, 8)
    needs_whole_image: ClassVar[bool] = False

    def __init__(self, config: CheckpointConfig | None = None) -> None:
        self.config = CheckpointConfig() if config is None else config

    @property
    def removes_noise(self) -> bool:
        """Whether the correction filter does; what the network does is not known."""
        return self.config.correction != "none"

    @staticmethod
    def min_side(scale: int) -> int:
        """Smallest side of an image, LR pixels."""
        return 8

    def check(self) -> Any:  # noqa: ANN401
        """Read the file and return its network: an error before anything else is computed.

        Raises:
            ConfigError: No file was named, or it cannot be used.
        """
        config = self.config
        if config.file is None:
            raise ConfigError(
                "the upscaler checkpoint needs a file: --upscaler checkpoint:FILE, or file = 'FILE' in the table "
                "[checkpoint] of run.toml."
            )
        return load_network(config.file, config.second_file, config.second_share)

    def fit(self, source: Source, degradation: Degradation, *, listener: Listener = ignore) -> TiledModel:
        """Load the network; nothing is trained.

        The correction filter takes the place of the kernel: the network gets the image that bicubic downscaling would
        have made, as far as the noise permits. Each band of an image that is not RGB passes through an RGB network as
        a grey image, and a network of one channel gets every band by itself.

        Args:
            source: The image.
            degradation: Its kernel, noise, and the error of the kernel.
            listener: Receives the events of the stage "checkpoint", which has no steps.

        Raises:
            ConfigError: No file was named, it cannot be used, or its network is for another scale.
            ImageError: The image is too small.
            KernelError: The kernel is far larger than the image.
        """
        config, kernel = self.config, degradation.kernel
        check_size(self, source.shape, kernel)
        listener(StageStarted(stage=STAGE, max_steps=0))
        network = self.check()
        if network.scale != kernel.scale:
            raise ConfigError(
                f"the network of {config.file} enlarges ×{network.scale}, got ×{kernel.scale}; choose that scale."
            )
        network = network.to(source.device)
        corrected = config.correction != "none" and (not is_bicubic(kernel) or max(degradation.noise_sigma) > 0)
        radius = 0
        if corrected:
            radius = correction_radius(
                kernel,
                method=config.correction,
                noise_sigma=min(degradation.noise_sigma),
                kernel_error=degradation.kernel_error,
            )
        listener(StageDone(stage=STAGE, steps=0))

        @torch.no_grad()
        def predict(window: Tensor) -> Tensor:
            images = _corrected(window, degradation, config.correction) if corrected else window
            return _apply(network, images.clamp(0, 1), config).clamp(0, 1)

        return TiledModel(scale=kernel.scale, predict=predict, halo=lambda: config.halo + radius)


def _corrected(window: Tensor, degradation: Degradation, method: Correction) -> Tensor:
    """Planes are corrected each with its own noise."""
    planes = to_planes(window, has_colors=degradation.has_colors)
    return from_planes(
        correct(
            planes.transpose(0, 1),
            degradation.kernel,
            method=method,
            noise_sigma=degradation.noise_sigma,
            kernel_error=degradation.kernel_error,
        ).transpose(0, 1),
        has_colors=degradation.has_colors,
    )


def _apply(network: Any, image: Tensor, config: CheckpointConfig) -> Tensor:  # noqa: ANN401
    """Apply a network to (1, C, h, w) in tiles, band by band where its channels are others."""
    channels, bands = network.input_channels, image.shape[1]

    def tiled(part: Tensor) -> Tensor:
        def enlarged(tile: Tensor) -> Tensor:
            result: Tensor = network(tile.contiguous())
            return result

        return run_tiled(enlarged, part, halo=config.halo, max_tile=config.max_tile, scale=network.scale)

    if bands == channels:
        return tiled(image)
    grey = (image[:, band : band + 1].expand(-1, channels, -1, -1) for band in range(bands))
    return torch.cat([tiled(part).mean(1, keepdim=True) for part in grey], 1)


def load_state(path: Path) -> dict[str, Any]:
    """The tensors of a checkpoint by name; a dictionary of dictionaries where the file has one (`params_ema`).

    A .safetensors file cannot run code; others are read with torch's `weights_only`, which refuses whatever is neither
    a tensor nor a plain value.

    Raises:
        ConfigError: The file is missing, damaged, of another kind, or holds more than tensors and plain values.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise ConfigError(f"a checkpoint must end in {', '.join(_SUFFIXES)}, got {path}; convert or rename it.")
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
        raise ConfigError(
            f"the checkpoint {path} cannot be read: {reason_of(error)}; check the name, or get an intact copy."
        ) from error
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


# ---------------------------------------------------------------------------------------------- correction filter


def correction_spectrum(
    kernel: Kernel,
    height: int,
    width: int,
    *,
    method: Correction = "natural",
    noise_sigma: float = 0.0,
    kernel_error: float = 0.0,
) -> Tensor:
    """The correction filter h on the Fourier grid of an LR image.

    Args:
        kernel: Kernel of the image.
        height: Height of the LR image, px.
        width: Its width, px.
        method: Model of the HR image: "natural" (independent frequencies of the power of photographs) or "paper".
        noise_sigma: Standard deviation of its noise, [0, 1] units; at least that of 8-bit rounding is assumed.
        kernel_error: Standard deviation of the error of the kernel's transfer function.

    Returns:
        (height, width), complex64; 1 at frequency 0 up to the regularisation.
    """
    scale = kernel.scale
    ideal = bicubic(scale)
    actual, wanted = (transfer(k.tensor()[None].float(), scale, scale * height, scale * width) for k in (kernel, ideal))

    def folded(spectrum: Tensor) -> Tensor:
        parts: Tensor = spectrum.reshape(scale, height, scale, width).mean((0, 2))
        return parts

    by_kernel = WienerFilter.of(actual, scale)  # its members are P K* and the folded P |K|²
    uncertain = WienerFilter.of(actual, scale, kernel_error).folded[0] - by_kernel.folded[0]
    noise = uncertain + noise_sigma**2 + FLOORS[0] ** 2
    if method == "natural":
        return folded(by_kernel.numerator[0] * wanted[0]) / (by_kernel.folded[0] + noise)
    a, b = folded(wanted[0] * wanted[0].conj()), folded(actual[0] * wanted[0].conj())
    power = WienerFilter.of(wanted, scale).folded[0]
    return a * b.conj() / (b.abs().square() + noise * a.abs().square() / power)


def correct(
    lr: Tensor,
    kernel: Kernel,
    *,
    method: Correction = "natural",
    noise_sigma: tuple[float, ...] = (0.0,),
    kernel_error: float = 0.0,
) -> Tensor:
    """Apply the correction filter, with half-sample symmetric borders.

    Args:
        lr: An LR image, (1, C, h, w), [0, 1]; left unchanged.
        kernel: Its kernel.
        method: Model of the HR image, as in `correction_spectrum`.
        noise_sigma: Standard deviation of the noise, [0, 1] units: of the image, or of each band.
        kernel_error: Standard deviation of the error of the kernel's transfer function.

    Returns:
        The image as bicubic downscaling would have made it, (1, C, h, w), float32, not clamped.

    References:
        Abu Hussein, Tirer, Giryes, CVPR 2020, §4.
    """
    padded = pad_symmetric(lr.float(), _MARGIN)
    height, width = padded.shape[-2:]
    levels = [noise_sigma[min(band, len(noise_sigma) - 1)] for band in range(lr.shape[1])]
    filters = {
        level: correction_spectrum(
            kernel, height, width, method=method, noise_sigma=level, kernel_error=kernel_error
        ).to(lr.device)
        for level in set(levels)
    }
    spectrum = torch.fft.fft2(padded) * torch.stack([filters[level] for level in levels])
    corrected: Tensor = torch.fft.ifft2(spectrum).real
    return corrected[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN].contiguous()


def correction_radius(
    kernel: Kernel, *, method: Correction = "natural", noise_sigma: float = 0.0, kernel_error: float = 0.0
) -> int:
    """Distance in LR pixels beyond which the filter has negligible weight; at most `_MAX_RADIUS`."""
    side = 2 * _MAX_RADIUS
    spectrum = correction_spectrum(
        kernel, side, side, method=method, noise_sigma=noise_sigma, kernel_error=kernel_error
    )
    weights = torch.fft.fftshift(torch.fft.ifft2(spectrum).real.abs())
    return min(_MAX_RADIUS, math.ceil(support_radius(weights[None], _TAIL) / 4) * 4)
