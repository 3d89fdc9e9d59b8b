"""Estimate the kernel of a photograph, compare it with an assumed one, and super-resolve with both.

Run it from the repository: python examples/known_kernel.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

import blindsr
from blindsr.kernels import gaussian

here = Path(__file__).parent
photo = np.asarray(Image.open(here / "chelsea.png").convert("RGB"))[100:228, 120:312]

estimate = blindsr.estimate_kernel(photo, scale=2)
print("estimated:", estimate)

blind = blindsr.estimate_and_upscale(photo, scale=2, preset="fast")
known = blindsr.upscale(photo, gaussian(0.6, 2), scale=2, preset="fast")
print("sizes:", photo.shape, "->", blind.shape, known.shape)
print("mean difference in grey levels:", np.abs(blind.astype(float) - known).mean().round(2))
