"""Make the images of the README: a crop, interpolated and by blindsr, and the plot of the estimated kernel.

python examples/before_after.py examples/chelsea.png docs/images --crop 200,100,340,240
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import blindsr
from blindsr.kernels import kernel_plot_png

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("photo", type=Path)
parser.add_argument("folder", type=Path)
parser.add_argument("--crop", default="200,100,340,240", help="x,y,w,h of the result, in its pixels")
parser.add_argument("--zoom", type=int, default=2)
arguments = parser.parse_args()

photo = Image.open(arguments.photo).convert("RGB")
result = blindsr.SuperResolver(scale=2)(np.asarray(photo))
sharp = Image.fromarray(result.image)
interpolated = photo.resize(sharp.size, Image.Resampling.BICUBIC)

x, y, w, h = map(int, arguments.crop.split(","))
size = (w * arguments.zoom, h * arguments.zoom)
gap, header = 8, 34
sheet = Image.new("RGB", (2 * size[0] + gap, size[1] + header), "white")
draw = ImageDraw.Draw(sheet)
for i, (image, name) in enumerate(((interpolated, "bicubic interpolation x2"), (sharp, "blindsr x2"))):
    left = i * (size[0] + gap)
    sheet.paste(image.crop((x, y, x + w, y + h)).resize(size, Image.Resampling.NEAREST), (left, header))
    draw.text((left + 4, 4), name, fill="black", font=ImageFont.load_default(size=20))

arguments.folder.mkdir(parents=True, exist_ok=True)
sheet.save(arguments.folder / "before_after.png", optimize=True)
(arguments.folder / "kernel.png").write_bytes(kernel_plot_png(result.kernel))
print(result.kernel, "->", arguments.folder / "before_after.png")
