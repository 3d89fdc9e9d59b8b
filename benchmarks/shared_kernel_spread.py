"""The spread of the widths of single estimates in batches with one kernel and with two: what a shared kernel warns of.

Thirteen photographs of scikit-image (the middle 512 px a side) are degraded at ×2 by each of nine kernels, with noise
of half a percent, and 8 bits. Batches are drawn from the estimates: all of one kernel, or every other photograph with
another one. Run `python benchmarks/shared_kernel_spread.py` (about three minutes of one core).
"""

from collections.abc import Iterable
from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from skimage import data
from torch import Tensor

from blindsr.events import ignore
from blindsr.kernels import Kernel, gaussian
from blindsr.kernels.analytic import parse_kernel
from blindsr.kernels.metrics import bicubic_share
from blindsr.ops import degrade
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind
from blindsr.pipelines.shared_kernel import _MAX_BICUBIC_SHARE, _MAX_SPREAD, _inliers
from blindsr.settings import Settings

NAMES = (
    "astronaut", "coffee", "chelsea", "rocket", "camera", "stereo_motorcycle", "hubble_deep_field",
    "immunohistochemistry", "coins", "moon", "grass", "gravel", "brick",
)  # fmt: skip
SIGMAS = (0.8, 1.0, 1.3, 1.6, 2.0, 2.6)
KERNELS = {f"σ {sigma}": parse_kernel(f"gaussian:{sigma}", 2) for sigma in SIGMAS}
KERNELS |= {name: parse_kernel(name, 2) for name in ("motion:6,30", "defocus:5")}
KERNELS["elongated"] = gaussian([[4.0, 1.0], [1.0, 1.2]], 2)
BATCHES = 200


def photograph(name: str) -> Tensor:
    pixels = getattr(data, name)()
    pixels = np.atleast_3d(pixels[0] if isinstance(pixels, tuple) else pixels)
    top, left = (max(0, (side - 512) // 2) for side in pixels.shape[:2])
    part = pixels[top : top + 512, left : left + 512]
    height, width = (side - side % 2 for side in part.shape[:2])
    return torch.from_numpy(part[:height, :width].copy()).double().permute(2, 0, 1)[None] / 255


def covariance(hr: Tensor, kernel: Kernel, seed: int) -> NDArray[np.float64] | None:
    """That of the estimate, or None where a shared kernel leaves it out."""
    generator = torch.Generator().manual_seed(seed)
    lr = degrade(hr, kernel.tensor(hr), 2, noise_sigma=0.005, generator=generator).clamp(0, 1)
    source = TensorSource(((lr * 255).round() / 255).float())
    estimate = blind.estimate_kernel(source, Settings(), listener=ignore).kernel
    is_used = bicubic_share(estimate) <= _MAX_BICUBIC_SHARE and estimate.provenance.get("made_by") != "bicubic"
    return estimate.covariance if is_used and estimate.has_sigmas else None


def spread(covariances: Iterable[NDArray[np.float64] | None]) -> float:
    stack = np.array([c for c in covariances if c is not None])
    if len(stack) < 4:
        return np.nan
    widths = np.sqrt(np.trace(stack[_inliers(stack)], axis1=1, axis2=2) / 2)
    return widths.std(ddof=1) / widths.mean()


def main() -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    photographs = [photograph(name) for name in NAMES]
    table = {name: [covariance(hr, k, i) for i, hr in enumerate(photographs)] for name, k in KERNELS.items()}

    def batches(count: int, *kernels: str) -> NDArray[np.float64]:
        draws = (rng.permutation(len(NAMES))[:count] for _ in range(BATCHES))
        values = np.array([spread([table[kernels[n % len(kernels)]][i] for n, i in enumerate(d)]) for d in draws])
        return values[np.isfinite(values)]

    print(f"share of batches above {_MAX_SPREAD}, by the number of photographs")
    for count in (6, 8, 12):
        one = np.concatenate([batches(count, name) for name in KERNELS])
        print(f"{count}: one kernel {np.mean(one > _MAX_SPREAD):.2f}, median spread {np.median(one):.2f}")
        for first, second in permutations(SIGMAS, 2):
            if 1.2 < second / first < 2.1 and first >= 1:
                two = batches(count, f"σ {first}", f"σ {second}")
                print(f"   σ {first} and {second}: {np.mean(two > _MAX_SPREAD):.2f}, median {np.median(two):.2f}")


if __name__ == "__main__":
    main()
