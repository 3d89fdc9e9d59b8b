"""Test data that many tests share: photographs that ship with scikit-image, blurred, noisy or synthetic images."""

from functools import cache

import numpy as np
import torch
from skimage import data

from blindsr.estimators.spectral import SpectralConfig
from blindsr.events import ignore
from blindsr.ops.windows import TensorSource
from blindsr.settings import Settings
from blindsr.upscalers.base import Degradation
from blindsr.upscalers.pretrained import PretrainedConfig, PretrainedUpscaler
from blindsr.upscalers.tiling import tiled_rows


@cache
def _pixels(name):
    image = getattr(data, name)()
    return image if image.ndim == 3 else image[:, :, None]


def photograph(height=46, width=38, *, name="chelsea", top=100, left=150, bands=3):
    """A part of a photograph, (1, C, height, width) float32 in [0, 1]; mirrored beyond its borders."""
    pixels = _pixels(name)
    rows = np.pad(np.arange(pixels.shape[0]), (0, max(0, top + height - pixels.shape[0])), mode="symmetric")
    columns = np.pad(np.arange(pixels.shape[1]), (0, max(0, left + width - pixels.shape[1])), mode="symmetric")
    part = pixels[rows[top : top + height]][:, columns[left : left + width]]
    tensor = torch.from_numpy(part.copy()).permute(2, 0, 1)[None].float() / 255
    return tensor[:, :bands].contiguous()


def samples(height=46, width=38, **where):
    """The same as `photograph` as a file would have it: (height, width, C) uint8."""
    return np.rint(255 * photograph(height, width, **where)[0].permute(1, 2, 0).numpy()).astype(np.uint8)


def noise(height, width, sigma, *, mean=0.5, seed=0, bands=1):
    """A flat image with white noise, clipped to [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return (mean + sigma * torch.randn(1, bands, height, width, generator=generator)).clamp(0, 1)


def psnr(first, second, border=4):
    """PSNR in dB, peak 1, without a border."""
    difference = (first - second)[..., border:-border, border:-border]
    return float(-10 * torch.log10(difference.double().square().mean()))


def random_image(rng, height=37, width=31, *, bands=1, batch=1):
    """Independent samples, (batch, bands, height, width) float64 in [0, 1)."""
    return torch.from_numpy(rng.random((batch, bands, height, width)))


def upscale_valid(valid, height, width):
    """A mask at another size: a pixel takes the value of the input pixel that contains its centre."""
    rows, columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in zip((height, width), valid.shape, strict=False))
    return valid[rows][:, columns]


class Upscaled:
    """The result of `upscale`: image, steps, history, warnings."""

    def __init__(self, image, model):
        self.image, self.model = image, model
        self.steps, self.history, self.warnings = model.steps, model.history, model.warnings


def upscale(lr, kernel, config=None, *, noise_sigma=0.0, kernel_error=0.0, tile=None, listener=ignore):
    """Upscale an image by the pretrained upscaler with a known degradation."""
    degradation = Degradation(kernel=kernel, noise_sigma=(noise_sigma,), kernel_error=kernel_error)
    model = PretrainedUpscaler(config).fit(TensorSource(lr), degradation, listener=listener)
    return Upscaled(torch.cat(list(tiled_rows(model, TensorSource(lr), tile=tile)), -2), model)


#: The bicubic kernel and bicubic interpolation: a whole run in milliseconds, for what does not depend on the method.
INTERPOLATE = Settings(estimator="bicubic", upscaler="bicubic")


def quick_settings(*, steps=0, random_weights=False, **fields):
    """Settings of the pretrained network in full precision, with few steps or none, and of a quick estimate."""
    config = PretrainedConfig(
        steps=steps,
        learning_rate=5e-5,
        batch=2,
        crop=12,
        views=(0, 3),
        validation_side=16,
        ensemble=1,
        precision="fp32",
        random_weights=random_weights,
    )
    # Without the spectral estimates of halves, which say how certain a kernel is and take three quarters of the time.
    return Settings(configs={"pretrained": config, "spectral": SpectralConfig(splits=0)}, **fields)
