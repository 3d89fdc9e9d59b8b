"""Make the pictures of the README: a crop interpolated and by blindsr, and the estimated kernel.

python examples/before_after.py examples/chelsea.png docs/images --crop 200,100,340,240
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import blindsr
from blindsr.kernels import kernel_picture

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("photo", type=Path)
parser.add_argument("folder", type=Path)
parser.add_argument("--crop", default="200,100,340,240", help="x,y,w,h of the result, in its pixels")
parser.add_argument("--zoom", type=int, default=2)
arguments = parser.parse_args()

photo = Image.open(arguments.photo).convert("RGB")
result = blindsr.estimate_and_upscale(np.asarray(photo), scale=2, full=True)
sharp = Image.fromarray((result.image[0].permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8))
interpolated = photo.resize(sharp.size, Image.Resampling.BICUBIC)

x, y, w, h = map(int, arguments.crop.split(","))
size = (w * arguments.zoom, h * arguments.zoom)
gap, bar = 8, 34
sheet = Image.new("RGB", (2 * size[0] + gap, size[1] + bar), "white")
draw = ImageDraw.Draw(sheet)
for i, (picture, name) in enumerate(((interpolated, "bicubic interpolation ×2"), (sharp, "blindsr ×2"))):
    left = i * (size[0] + gap)
    sheet.paste(picture.crop((x, y, x + w, y + h)).resize(size, Image.Resampling.NEAREST), (left, bar))
    draw.text((left + 4, 4), name.replace("×", "x"), fill="black", font=ImageFont.load_default(size=20))

arguments.folder.mkdir(parents=True, exist_ok=True)
sheet.save(arguments.folder / "before_after.png", optimize=True)
(arguments.folder / "kernel.png").write_bytes(kernel_picture(result.kernel))
print(result.kernel, "->", arguments.folder / "before_after.png")
