"""Make the pictures and the figures of docs/gallery.md again.

python benchmarks/gallery.py WORK [--only NAME,...]

Each picture is a part of a photograph at 100 %, by bicubic interpolation and by blindsr, side by side. The pictures
go to docs/images/gallery/, the figures to gallery.json beside this script; WORK keeps the inputs, the degraded sets and
the whole results. The commands are those that the page shows, with one thread. Photographs: `skimage.data`, whose
documentation gives the sources and the licences.
"""

import argparse
import io
import json
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from click.testing import CliRunner
from machine import circumstances
from PIL import Image, ImageDraw, ImageFont
from skimage import data

from blindsr.cli.main import cli
from blindsr.evaluation.metrics import psnr_y

PICTURES = Path(__file__).parent.parent / "docs" / "images" / "gallery"
MAX_BYTES = 60_000
GAP, HEADER = 8, 20


@dataclass(frozen=True)
class Entry:
    """A picture: a photograph of `skimage.data`, and how it was degraded (None: as it is)."""

    photo: str
    degraded: str | None
    crop: tuple[int, int, int, int]  # x, y, w, h in pixels of the result
    scale: int = 2
    part: tuple[int, int, int, int] | None = None  # x, y, w, h of the photograph that is used
    advised: str | None = None  # the kernel that the page advises instead of the estimate


ENTRIES = {
    "cat": Entry("chelsea", None, (250, 170, 280, 240)),
    "astronaut": Entry("astronaut", "--law gaussian:1.6", (130, 40, 280, 240)),
    "shake": Entry("camera", "--law motion:21", (130, 40, 280, 240)),
    "defocus": Entry("rocket", "--law defocus:5", (240, 180, 280, 240)),
    "tissue": Entry("immunohistochemistry", "--law gaussian:1.4", (100, 100, 280, 240)),
    "galaxies": Entry("hubble_deep_field", "--law gaussian:1.2", (80, 100, 280, 240), part=(300, 200, 400, 400)),
    "brick": Entry("brick", "--law gaussian:3", (150, 40, 280, 240), advised="gaussian:3"),
    "cup": Entry("coffee", "--law div2krk --scale 4", (160, 60, 280, 240), scale=4),
    "coins": Entry("coins", "--law gaussian:1.2 --noise 0.03", (20, 20, 280, 240), advised="gaussian:1.2"),
    "retina": Entry("retina", "--law bicubic", (200, 200, 280, 240), part=(500, 400, 512, 512), advised="bicubic"),
    "clock": Entry("clock", None, (270, 200, 300, 280)),
    "jpeg": Entry("astronaut", "--law gaussian:1.2 --jpeg 15", (130, 40, 280, 240)),
}


def blindsr(command: str) -> None:
    """Run a command of blindsr.

    Raises:
        SystemExit: It fails.
    """
    result = CliRunner().invoke(cli, shlex.split(command), prog_name="blindsr", catch_exceptions=False)
    if result.exit_code:
        raise SystemExit(f"blindsr {command}: {result.stderr}")


def make(name: str, entry: Entry, work: Path) -> dict[str, object]:
    """The picture of an entry, and its figures; PSNR is that of Y as MATLAB defines it, in dB."""
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    photo = getattr(data, entry.photo)()
    if entry.part:
        x, y, w, h = entry.part
        photo = photo[y : y + h, x : x + w]
    source = folder / f"{entry.photo}.png"
    Image.fromarray(photo).save(source)
    if entry.degraded:
        blindsr(f"degrade {source} -o {folder}/set {entry.degraded} --force")
        source = folder / "set" / "lr" / source.name
    ways = {
        "interpolation": "upscale --kernel bicubic --upscaler bicubic",
        "result": "estimate-and-upscale --preset fast",
    }
    if entry.advised:
        ways["advised"] = f"upscale --kernel {entry.advised} --preset fast"
    images = {}
    for way, command in ways.items():
        blindsr(f"{command} {source} --scale {entry.scale} --threads 1 --force -o {folder}/{way}.png")
        images[way] = np.asarray(Image.open(folder / f"{way}.png"))
    height, width = images["result"].shape[:2]
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    figures: dict[str, object] = {"kernel": record["kernel"]["provenance"], "warnings": record["warnings"]}
    if entry.degraded:
        psnr = {way: psnr_y(image, photo[:height, :width], border=entry.scale) for way, image in images.items()}
        figures["psnr_y"] = {way: round(value, 2) for way, value in psnr.items()}
    figures["bytes"] = save(name, images["interpolation"], images["result"], entry)
    return figures


def save(name: str, interpolated: np.ndarray, result: np.ndarray, entry: Entry) -> int:
    """Write the picture, at the highest quality up to 88 that MAX_BYTES allows; returns its size."""
    x, y, w, h = entry.crop
    sheet = Image.new("RGB", (2 * w + GAP, h + HEADER), "white")
    draw = ImageDraw.Draw(sheet)
    for i, (image, title) in enumerate(((interpolated, "bicubic interpolation"), (result, "blindsr"))):
        sheet.paste(Image.fromarray(image[y : y + h, x : x + w]).convert("RGB"), (i * (w + GAP), HEADER))
        draw.text((i * (w + GAP) + 2, 2), title, fill="black", font=ImageFont.load_default(size=13))
    for quality in range(88, 40, -4):
        encoded = io.BytesIO()
        sheet.save(encoded, "JPEG", quality=quality, subsampling=0, optimize=True)
        if encoded.tell() <= MAX_BYTES:
            break
    PICTURES.mkdir(parents=True, exist_ok=True)
    (PICTURES / f"{name}.jpg").write_bytes(encoded.getvalue())
    return encoded.tell()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--only", help="names of pictures")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else list(ENTRIES)
    path = Path(__file__).with_suffix(".json")
    done = json.loads(path.read_text(encoding="utf-8"))["pictures"] if arguments.only and path.is_file() else {}
    for name in names:
        done[name] = make(name, ENTRIES[name], arguments.work)
        print(name, json.dumps(done[name], ensure_ascii=False), flush=True)
    text = json.dumps({**circumstances(), "pictures": done}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
