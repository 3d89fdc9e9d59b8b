"""One cell of an ablation: run it, score it, keep its picture and its kernel."""

import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from blindsr.errors import ImageError
from blindsr.events import ignore
from blindsr.image_io import atomic_write_bytes, read_photo
from blindsr.image_io.inline import eight_bits, picture_bytes
from blindsr.kernels import Kernel, bicubic
from blindsr.kernels.files import kernel_bytes, read_kernel
from blindsr.ops import imresize
from blindsr.pipelines import blind, known
from blindsr.pipelines.ablation_plan import BICUBIC, INTERPOLATION, TRUE, Cell
from blindsr.pipelines.evaluate import samples_8bit, score_image, score_kernel
from blindsr.pipelines.record import plain
from blindsr.pipelines.result import Upscaled
from blindsr.runtime import choose_device, prepare_process

__all__ = ["run_cell"]

Row = dict[str, Any]


def run_cell(cell: Cell, folder: Path, *, device: str, threads: int | None) -> Row:
    """Run one cell.

    Args:
        cell: What to run.
        folder: Gets images/NAME/METHOD-KEY.png and .kernel.npz.
        device: "auto", "cpu", …
        threads: For torch; None leaves them as they are.

    Returns:
        A row of results.jsonl: scores, seconds, file names.

    Raises:
        BlindSRError: The run failed, or the files do not belong together.
    """
    if threads is not None:
        prepare_process(threads)
    lr = read_photo(cell.image.lr).pixels
    hr = samples_8bit(cell.image.hr)
    scale = cell.settings.network_scale
    hr = _fitted(hr, lr, scale, cell.image.name)
    image = torch.from_numpy(lr.copy()).permute(2, 0, 1)[None].contiguous().to(choose_device(device))
    started = time.perf_counter()
    sr, kernel, upscaled = _run(cell, image)
    seconds = time.perf_counter() - started
    samples = eight_bits(sr[0].permute(1, 2, 0).float().cpu().numpy())
    row: Row = {
        "key": cell.key(),
        "image": cell.image.name,
        "method": cell.method,
        "seed": cell.seed,
        "scale": scale,
        "scores": plain(asdict(score_image(samples, hr, scale=scale))),
        "seconds": round(seconds, 3),
        "files": _keep(cell, folder, samples, kernel),
    }
    if kernel is not None:
        row["kernel"] = _kernel_figures(kernel, cell, hr)
    if upscaled is not None:
        row |= {
            "timings": {name: round(value, 3) for name, value in upscaled.timings.items()},
            "consistency": plain(upscaled.consistency),
            "precision": upscaled.dtype,
            "notes": list(upscaled.notes),
        }
    return row


def _fitted(hr: NDArray[np.uint8], lr: NDArray[np.float32], scale: int, name: str) -> NDArray[np.uint8]:
    """HR cut to s times LR, where its sides are no multiples."""
    height, width = lr.shape[0] * scale, lr.shape[1] * scale
    if not (0 <= hr.shape[0] - height < scale and 0 <= hr.shape[1] - width < scale):
        ratio = hr.shape[0] / lr.shape[0]
        raise ImageError(
            f"{name}: HR is {hr.shape[1]}×{hr.shape[0]} px and LR {lr.shape[1]}×{lr.shape[0]}, which is not "
            f"×{scale} but ×{ratio:.2f}; give the scale of the set."
        )
    return hr[:height, :width]


def _run(cell: Cell, image: torch.Tensor) -> tuple[torch.Tensor, Kernel | None, Upscaled | None]:
    scale = cell.settings.network_scale
    if cell.method == INTERPOLATION:
        return imresize(image, float(scale)).clamp(0, 1), None, None
    if cell.method == BICUBIC:
        done = known.upscale(image, bicubic(scale), cell.settings, listener=ignore)
    elif cell.method == TRUE:
        done = known.upscale(image, _true_kernel(cell), cell.settings, listener=ignore)
    else:
        done = blind.estimate_and_upscale(image, cell.settings, listener=ignore)
    return done.image, done.kernel, done


def _true_kernel(cell: Cell) -> Kernel:
    if cell.image.kernel is None:
        raise ImageError(f"{cell.image.name} has no true kernel; put it into kernel/.")
    return read_kernel(cell.image.kernel, scale=cell.settings.network_scale)[0]


def _kernel_figures(kernel: Kernel, cell: Cell, hr: NDArray[np.uint8]) -> Row:
    long, short = kernel.sigmas
    figures: Row = {"digest": kernel.digest, "sigma_long": long, "sigma_short": short, "angle": kernel.angle}
    if cell.image.kernel is not None:
        figures |= asdict(score_kernel(kernel, _true_kernel(cell), hr))
    rounded = plain({name: round(v, 6) if isinstance(v, float) else v for name, v in figures.items()})
    return rounded if isinstance(rounded, dict) else {}


def _keep(cell: Cell, folder: Path, samples: NDArray[np.uint8], kernel: Kernel | None) -> dict[str, str]:
    place = folder / "images" / cell.image.name
    place.mkdir(parents=True, exist_ok=True)
    stem = f"{cell.method}-{cell.key()[:8]}"
    for role, source in (("hr", cell.image.hr), ("lr", cell.image.lr)):
        # The folder is whole without the set: a report can be made of it elsewhere.
        target = place / f"{role}{source.suffix.lower()}"
        content = source.read_bytes()
        if not target.is_file() or target.read_bytes() != content:
            atomic_write_bytes(target, content, overwrite=True)
    names = {
        "sr": f"{stem}.png",
        "hr": f"hr{cell.image.hr.suffix.lower()}",
        "lr": f"lr{cell.image.lr.suffix.lower()}",
    }
    atomic_write_bytes(place / names["sr"], picture_bytes(samples, "png"), overwrite=True)
    if kernel is not None:
        names["kernel"] = f"{stem}.kernel.npz"
        atomic_write_bytes(place / names["kernel"], kernel_bytes(kernel, ".npz"), overwrite=True)
    return {role: f"images/{cell.image.name}/{name}" for role, name in names.items()}
