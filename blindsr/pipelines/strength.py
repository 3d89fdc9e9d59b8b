"""How much of a result is used: a network compares it with interpolation, however its kernel came to be.

A result x = b + d is the interpolated image b and what the method has added to it. Of all mixtures b + w·d, the nearest
one to the unknown original o has the share w = ⟨o − b, d⟩ / |d|²: 1 for a result that is right, less for one that is
sharpened too much, 0 for one whose details are no details of the original. The network has learned this share from
results of the whole method whose original is known, with estimated kernels, wrong ones, and damages that no model of
the degradation has. Its only inputs are the two images: kernel and noise, whose errors it has to find, are not among
them.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import as_file, files
from typing import ClassVar, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from blindsr.estimators.base import is_flat
from blindsr.ops import imresize
from blindsr.ops.color import luma
from blindsr.ops.noise import ROUNDING
from blindsr.ops.windows import Source, TensorSource, most_textured, spread_windows
from blindsr.pipelines.checks import ConsistencyMeter, psnr_of
from blindsr.runtime import frozen_network
from blindsr.upscalers.base import Degradation, TiledModel
from blindsr.upscalers.tiling import finite_result

__all__ = [
    "StrengthNetwork", "is_flat_image", "measure_strength", "strength_of", "strength_warning", "with_flat_bands",
]  # fmt: skip

_WINDOW = 96  # LR px, side of the parts that are compared, as in the training
# dB of the image against the result degraded by its kernel, at which the result is wrong, and below that of the noise.
# Photographs have 26 and more, with forty kinds of damage and without, and lettering that is saturated 25.
_CONTRADICTION, _NOISE_MARGIN = 22.0, 6.0
_ROWS = 256  # LR rows that are looked at together
_MIN_SIDE = 32  # LR px; of smaller images the whole result is used
_CANDIDATES, _WINDOWS = 9, 4
SMALL = 1_000_000  # HR px up to which the whole result is computed and kept
# A part is a regular pattern where the strongest of its frequencies above the lowest have this share of the energy of
# its gradient: stripes, checkerboards and print screens have 0.98 and more, 96 parts of 24 photographs at most 0.54.
_REGULAR, _STRONGEST, _LOWEST = 0.6, 24, 0.03
_GRID = 2  # the network sees 2×2 pixels for each of the input, whatever the scale
# Predicted share from which the whole result is used. A kernel that was given is more probably right than one that was
# estimated, so that a lower predicted share still counts as right.
WHOLE = {"estimated": 0.4, "given": 0.1}
_HIDDEN = 64
_CHANNELS = 32


class StrengthNetwork(nn.Module):
    """The share of a result that is nearest to the original, from the interpolated image and the result.

    Nine planes on the LR grid: 2×2 pixels of the interpolated image and of the difference, and the local size of the
    difference; six convolutions, a mean weighted by what the network attends to, and two layers. Contrast is
    normalised, and its logarithm is an input of the last layers.
    """

    LARGEST: ClassVar[float] = 1.2  # share; above 1, what was added is too little

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(9, _CHANNELS, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, stride=2), nn.ReLU()),
            *(nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(_CHANNELS, _HIDDEN, 3, padding=1, stride=2), nn.ReLU()),
            *(nn.Conv2d(_HIDDEN, _HIDDEN, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(_HIDDEN, _HIDDEN, 3, padding=1), nn.ReLU()),
        )
        self.attention = nn.Conv2d(_HIDDEN, _HIDDEN, 1)
        self.value = nn.Conv2d(_HIDDEN, _HIDDEN, 1)
        self.head = nn.Sequential(nn.Linear(_HIDDEN + 2, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, interpolated: Tensor, result: Tensor) -> Tensor:
        """The share, (N,), from 0 to `LARGEST`, of images (N, H, W) of even sides, grey levels from 0 to 255."""
        difference = result - interpolated
        centred = interpolated - interpolated.mean((1, 2), keepdim=True)
        contrast = centred.square().mean((1, 2), keepdim=True).sqrt() + 2
        added = difference.square().mean((1, 2), keepdim=True).sqrt() + 0.5
        base, change = (functional.pixel_unshuffle(x[:, None], 2) for x in (centred / contrast, difference / added))
        size = change.square().mean(1, keepdim=True).sqrt()
        features = self.body(torch.cat([base, change, size], 1))
        weights = self.attention(features).flatten(2).softmax(-1)
        pooled = (self.value(features).flatten(2) * weights).sum(-1)
        levels = torch.stack([(contrast / 30).log().flatten(), (added / 5).log().flatten()], 1)
        logit = self.head(torch.cat([pooled, levels], 1))[:, 0]
        return self.LARGEST * torch.sigmoid(logit + 1.5)  # the whole result before anything is learned


@cache
def _network() -> StrengthNetwork:
    with as_file(files(__package__) / "weights" / "strength_network.safetensors") as path:
        return frozen_network(StrengthNetwork, load_file(path))


@torch.no_grad()
def strength_of(
    interpolated: Sequence[Tensor], results: Sequence[Tensor], scale: int, kernel: Literal["estimated", "given"]
) -> float:
    """The share of results that is used, from parts of an image.

    Args:
        interpolated: The interpolated parts, each (1, C, s·h, s·w), [0, 1].
        results: The results.
        scale: The factor s.
        kernel: How the kernel came to be.

    Returns:
        From 0 to 1; 1 where the network predicts 0.4 or more of any part (0.1 with a given kernel): a wrong kernel is
        wrong in all of them, and one part with a pattern that looks like a mistake proves nothing.
    """
    shares = []
    for plain, result in zip(interpolated, results, strict=True):
        pair = torch.cat([_gray(plain, scale), _gray(result, scale)])
        # Four of the eight dihedral views, for which the prediction should be the same.
        views = torch.stack([view for flipped in (pair, pair.flip(1)) for view in (flipped, flipped.flip(2))])
        is_changed = bool((pair[0] != pair[1]).any())
        shares.append(float(_network()(views[:, 0], views[:, 1]).mean()) if is_changed else 1.0)
    return min(1.0, max(shares) / WHOLE[kernel])


def _gray(image: Tensor, scale: int) -> Tensor:
    """Luma on the grid of the network, (1, H, W), grey levels."""
    grey = 255 * luma(image).float()[None]
    return grey if scale == _GRID else imresize(grey[None], _GRID / scale)[0]


def measure_strength(
    model: TiledModel,
    source: Source,
    kernel: Literal["estimated", "given"] = "estimated",
    degradation: Degradation | None = None,
) -> tuple[float, TiledModel]:
    """The share of a model's result that is used, from its most textured parts.

    Args:
        model: Fitted to the image.
        source: The image; linear light is compared as it is, because its kernel overshoots there evenly.
        kernel: How the kernel came to be.
        degradation: What the model was fitted to. Of a result that contradicts it, nothing is used: degraded by the
            kernel, it is far from the image. None is not compared with the image.

    Returns:
        From 0 to 1, 1 for an image that is flat, has a regular pattern or less than 32 px a side; and the model, which
        remembers its result of a small image, so that nothing is computed twice.
    """
    _, height, width = source.shape
    windows = [(slice(0, height), slice(0, width))]
    if is_compared := min(height, width) >= _MIN_SIDE:
        count = min(_WINDOWS, max(1, height * width // _WINDOW**2))  # together no more than the image
        windows = most_textured(source, spread_windows(source, _WINDOW, _CANDIDATES), count)
        windows = [(_even(rows), _even(columns)) for rows, columns in windows]
    parts = [source.window(*window) for window in windows]
    if not is_compared or all(is_flat(part) for part in parts):
        return 1.0, model
    if height * width * model.scale**2 <= SMALL:
        image = source.window(slice(0, height), slice(0, width))
        whole = finite_result(model, image)
        model = _remembering(model, image, whole)
        scaled = [[slice(model.scale * side.start, model.scale * side.stop) for side in w] for w in windows]
        results = [whole[..., rows, columns] for rows, columns in scaled]
    else:
        results = [finite_result(model, part) for part in parts]
    if degradation is not None and degradation.scale == model.scale and _contradicts(parts, results, degradation):
        return 0.0, model
    # The network takes a regular pattern for the ripples of a kernel that is too wide, whatever the kernel: it does not
    # know what there is in such images.
    if any(_is_regular(part) for part in parts):
        return 1.0, model
    plain = [imresize(part, model.scale).clamp(0, 1).cpu() for part in parts]
    return strength_of(plain, [result.cpu() for result in results], model.scale, kernel), model


def is_flat_image(source: Source) -> bool:
    """Whether the whole of an image holds nothing but rounding."""
    _, height, width = source.shape
    means = []
    for top in range(0, height, _ROWS):
        rows = source.window(slice(top, min(top + _ROWS, height)), slice(0, width))
        if not is_flat(rows):
            return False
        means.append(rows.mean((0, 2, 3)))
    spread = torch.stack(means)
    return float((spread.amax(0) - spread.amin(0)).max()) < ROUNDING


def with_flat_bands(model: TiledModel, flat: Sequence[bool]) -> TiledModel:
    """A model that interpolates what is flat: in 16 bits, the rounding of bfloat16 would be a pattern there.

    Args:
        model: Fitted to an image.
        flat: Of the whole image, or of each of its bands.
    """
    if not any(flat):
        return model

    def predict(window: Tensor) -> Tensor:
        plain = imresize(window, model.scale).clamp(0, 1)
        if all(flat):
            return plain
        result = model.predict(window)
        result[:, flat] = plain[:, flat].to(result)
        return result

    return replace(model, predict=predict)


def _contradicts(parts: Sequence[Tensor], results: Sequence[Tensor], degradation: Degradation) -> bool:
    """Whether results, degraded by the kernel, are far from the image, so that the kernel cannot be its own.

    Few grey levels are another matter: what dithering adds is not in the result, and need not be.
    """
    if degradation.is_quantized:
        return False
    meters = [ConsistencyMeter(TensorSource(part), degradation.kernel) for part in parts]
    for meter, result in zip(meters, results, strict=True):
        meter.update(result.cpu())
    bound = _CONTRADICTION
    if (sigma := degradation.unexplained_sigma) > 0:
        bound = min(bound, -20 * math.log10(sigma) - _NOISE_MARGIN)
    return psnr_of(meters) < bound


def _remembering(model: TiledModel, image: Tensor, result: Tensor) -> TiledModel:
    """The model, which does not compute the result of this image again."""

    def predict(window: Tensor) -> Tensor:
        is_known = window.shape == image.shape and bool(torch.equal(window, image))
        return result.clone() if is_known else model.predict(window)

    return replace(model, predict=predict)


def _is_regular(part: Tensor) -> bool:
    """Whether a few frequencies have most of the energy of the gradient of a part, (1, C, h, w)."""
    plane = luma(part)
    height, width = plane.shape
    taper = torch.outer(torch.hann_window(height), torch.hann_window(width)).to(plane)
    power = torch.fft.rfft2((plane - plane.mean()) * taper).abs().square()
    vertical, horizontal = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    squared = (vertical.square() + horizontal.square()).to(power)
    energy = (power * squared * (squared > _LOWEST**2)).flatten()
    return float(energy.topk(_STRONGEST).values.sum()) > _REGULAR * float(energy.sum())


def _even(side: slice) -> slice:
    return slice(side.start, side.stop - (side.stop - side.start) % 2)


def strength_warning(strength: float, scale: float) -> tuple[str, ...]:
    """A warning that names the share of a result at a scale, or nothing for one of 95 % and more."""
    if strength >= 0.945:
        return ()
    rest = "the photograph as it is" if scale == 1 else "interpolation"
    used = f"{100 * strength:.0f} % of it" if strength >= 0.005 else "nothing of it"
    return (
        "compared with interpolation, the result shows more detail than is probably there, as with a wrong kernel or "
        f"with a degradation that the model does not include: {used} is used, and {rest} for the rest; strength=1 "
        "(--strength 1) uses all of it.",
    )
