"""Estimate the kernel of a photograph, compare it with an assumed one, and super-resolve with both.

Run it from the repository: python examples/known_kernel.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

import blindsr
from blindsr.kernels import gaussian
from blindsr.kernels.metrics import normalised_cross_correlation

photo = np.asarray(Image.open(Path(__file__).parent / "chelsea.png").convert("RGB"))[100:228, 120:312]

resolver = blindsr.SuperResolver(scale=2, preset="fast")
blind = resolver(photo)
print("estimated:", blind.kernel)
print(f"data consistency: {blind.consistency_db:.1f} dB")

assumed = gaussian(1.2**2, 2)  # the variance; σ is 1.2 pixels of the result
known = resolver(photo, kernel=assumed)
print(f"NCC of the kernels: {normalised_cross_correlation(blind.kernel, assumed):.3f}")
print("sizes:", photo.shape, "->", blind.image.shape)
difference = np.abs(blind.image.astype(float) - known.image).mean()
print(f"mean difference of the results: {difference:.2f} grey levels")
