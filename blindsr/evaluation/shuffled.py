"""BSRGAN's degradation: blurs, downscaling, noise and compression in a random order.

References:
    Zhang, Liang, Van Gool, Timofte, "Designing a Practical Degradation Model for Deep Blind Image Super-Resolution",
    ICCV 2021, arXiv:2103.14006: §3.1 blur, §3.2 downsampling, §3.3 noise, §3.4 random shuffle. [O] chosen here.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from blindsr.errors import ConfigError
from blindsr.image_io import jpeg_round_trip
from blindsr.kernels import Kernel, gaussian
from blindsr.kernels.analytic import rotated_covariance
from blindsr.ops import degrade, imresize, to_array, to_tensor
from blindsr.ops.geometry import pad_symmetric
from blindsr.training.degradations import through_camera

__all__ = ["ShuffledLaw"]

_BLOCK = 8  # px, of JPEG and of a sensor's pattern
_Step = tuple[str, Callable[[Tensor], Tensor]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffledLaw:
    """The law of the degradation; probabilities and ranges are the paper's. Only JPEG at the end is always last."""

    max_sigma: tuple[float, float, float] = (2.4, 2.6, 2.8)  # of isotropic blur at ×2, ×3 [O], ×4, px; from 0.1
    max_variance: tuple[float, float, float] = (6.0, 7.0, 8.0)  # along the axes of anisotropic blur, px²; from 0.5
    blur_sizes: tuple[int, int] = (7, 21)  # px, odd
    split_share: float = 0.25  # of the ×4 degradations: an extra downscaling by 2 first
    max_noise: int = 25  # grey levels of Gaussian noise, from 1
    noise_shares: tuple[float, float, float] = (0.2, 0.4, 0.4)  # any covariance, independent in R, G, B, grey
    qualities: tuple[int, int] = (30, 95)  # of JPEG
    early_jpeg_share: float = 0.75  # of the degradations with a compression at any place
    camera_share: float = 0.25  # with the noise of a sensor, processed by a camera

    def __str__(self) -> str:
        return "bsrgan"

    def degrade(self, hr: Tensor, scale: int, rng: np.random.Generator) -> tuple[Tensor, tuple[str, ...]]:
        """Degrade an image.

        Args:
            hr: (1, C, H, W), [0, 1], grey or RGB; H and W are multiples of the scale. Left unchanged.
            scale: 2, 3 or 4.
            rng: Random generator.

        Returns:
            (1, C, H / s, W / s), [0, 1], of 8-bit values, and the names of the steps in their order.

        Raises:
            ConfigError: Another scale, or another number of bands.
        """
        if scale not in (2, 3, 4) or hr.shape[1] not in (1, 3):
            raise ConfigError(
                f"the law bsrgan needs a scale of 2, 3 or 4 and a grey or RGB image, got {scale} and "
                f"{hr.shape[1]} bands."
            )
        size = hr.shape[-2] // scale, hr.shape[-1] // scale
        steps: list[_Step] = [
            ("isotropic blur", self._blur(scale, rng, isotropic=True)),
            ("anisotropic blur", self._blur(scale, rng, isotropic=False)),
            ("downscaling", _downscaling(size, rng)),
            ("noise", self._noise(rng)),
        ]
        if rng.random() < self.early_jpeg_share:
            steps.append(("JPEG", self._jpeg(rng)))
        if rng.random() < self.camera_share:
            steps.append(("camera", _camera(rng)))
        order = [steps[i] for i in rng.permutation(len(steps))]
        if scale == 4 and rng.random() < self.split_share:
            half = hr.shape[-2] // 2, hr.shape[-1] // 2
            order.insert(0, ("downscaling by 2", lambda image: imresize(image, 0.5, size=half)))
        order.append(("JPEG", self._jpeg(rng)))
        image = hr
        for _, step in order:
            image = step(image).clamp(0, 1)
        return image, tuple(name for name, _ in order)

    def _blur(self, scale: int, rng: np.random.Generator, *, isotropic: bool) -> Callable[[Tensor], Tensor]:
        low, high = self.blur_sizes
        size = int(rng.integers(low // 2, high // 2 + 1)) * 2 + 1
        if isotropic:
            covariance = rng.uniform(0.1, self.max_sigma[scale - 2]) ** 2 * np.eye(2)
        else:
            along, across = rng.uniform(0.5, self.max_variance[scale - 2], 2)
            covariance = rotated_covariance(along, across, math.degrees(rng.uniform(0, math.pi)))
        kernel = gaussian(covariance, 1, size=size)
        return lambda image: _blurred(image, kernel)

    def _noise(self, rng: np.random.Generator) -> Callable[[Tensor], Tensor]:
        sigma = int(rng.integers(1, self.max_noise + 1)) / 255
        kind = int(rng.choice(3, p=self.noise_shares))
        mixing = np.eye(3)
        if kind == 0:  # the square root of a covariance of any correlations, with the same total variance
            directions = np.linalg.qr(rng.standard_normal((3, 3)))[0]
            spread = np.sqrt(rng.random(3))
            mixing = directions * spread / math.sqrt((spread**2).mean())
        seed = int(rng.integers(2**63))

        def noisy(image: Tensor) -> Tensor:
            bands = image.shape[1]
            own = np.random.default_rng(seed).standard_normal((3, *image.shape[-2:]))
            # Grey noise is the same in every band; a grey image has one.
            noise = own[:1].repeat(bands, 0) if kind == 2 or bands == 1 else np.tensordot(mixing, own, 1)
            return image + sigma * torch.from_numpy(noise)[None].to(image)

        return noisy

    def _jpeg(self, rng: np.random.Generator) -> Callable[[Tensor], Tensor]:
        low, high = self.qualities
        quality = int(rng.integers(low, high + 1))
        return lambda image: _compressed(image, quality)


def _blurred(image: Tensor, kernel: Kernel) -> Tensor:
    return degrade(image, kernel.tensor(image), 1)


def _downscaling(size: tuple[int, int], rng: np.random.Generator) -> Callable[[Tensor], Tensor]:
    """One of four: nearest, bilinear, bicubic, or down and up again; all keep the image aligned."""
    kind = int(rng.integers(4))
    share = float(rng.random())
    if kind == 0:
        # The middle of each cell, where a shifted kernel puts it: pixels, or means of four of them where s is even.
        return lambda image: functional.interpolate(image, size, mode="bilinear", antialias=False)
    if kind == 1:
        return lambda image: functional.interpolate(image, size, mode="bilinear", antialias=True)
    if kind == 2:
        return lambda image: imresize(image, size=size)

    def down_and_up(image: Tensor) -> Tensor:
        scale = image.shape[-2] / size[0]
        factor = 0.5 + share * (max(scale, 1.0) - 0.5)  # a in [1/2, s]: first by a / s, then by 1 / a
        between = tuple(max(1, round(side * factor)) for side in size)
        return imresize(imresize(image, size=(between[0], between[1])), size=size)

    return down_and_up


def _compressed(image: Tensor, quality: int) -> Tensor:
    samples = to_array(torch.round(255 * image.clamp(0, 1)).to(torch.uint8))
    return to_tensor(jpeg_round_trip(samples, quality)).to(image) / 255


def _camera(rng: np.random.Generator) -> Callable[[Tensor], Tensor]:
    seed = int(rng.integers(2**63))

    def taken(image: Tensor) -> Tensor:
        _, bands, height, width = image.shape
        # The camera is periodic, in whole blocks: a mirrored border keeps the wrap-around outside.
        padded = pad_symmetric(image, _BLOCK)
        below, right = (-side % _BLOCK for side in padded.shape[-2:])
        padded = functional.pad(padded, (0, right, 0, below), mode="replicate")
        rgb = padded[0].expand(3, *padded.shape[-2:]).float().contiguous()
        result, _ = through_camera(rgb, bands == 3, np.random.default_rng(seed))
        inner = result[:bands, _BLOCK : _BLOCK + height, _BLOCK : _BLOCK + width]
        return inner[None].to(image)

    return taken
