"""The job behind `blindsr train-start`: images in, a file of weights out, resumable."""

import csv
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from blindsr.errors import ConfigError, ImageError, OutputError
from blindsr.events import Event, Listener, Notice, StepDone, ignore
from blindsr.image_io import check_output, read_photo
from blindsr.zssr.start.inference import to_planes
from blindsr.zssr.start.pool import LeavesPool
from blindsr.zssr.start.training import Images, StartTrainingConfig, check_checkpoint, train_start
from blindsr.zssr.start.weights import load_start, save_start

__all__ = ["read_bands", "train_start_file"]

_SUFFIXES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".avif", ".bmp"}


def train_start_file(
    output: Path,
    config: StartTrainingConfig,
    *,
    images: Path | None = None,
    begin: Path | None = None,
    overwrite: bool = False,
    listener: Listener = ignore,
) -> Path:
    """Train a start and write it to a file.

    Beside `output`, with the same stem, are written a log (.csv), the state to resume from (.checkpoint), and, without
    `images`, the painted leaves (.leaves/). Run again after an interruption, it goes on from the last checkpoint; the
    checkpoint is removed when the training is done.

    Args:
        output: File for the weights, .safetensors.
        config: Settings of the training. With `images`, its numbers of images are those that are there.
        images: Folder of photographs to learn from; None paints dead leaves.
        begin: File of weights to go on from, with as many blocks or fewer; None begins with random ones.
        overwrite: Replace `output` if it exists.
        listener: Takes the events of stage "train-start".

    Returns:
        `output`.

    Raises:
        OutputError: `output` exists or cannot be written.
        ImageError: The folder has no picture that is large enough.
        ConfigError: The checkpoint belongs to other settings or another `begin`, or `begin` is no start that fits.
        DivergenceError: The training left the finite numbers.
    """
    if output.suffix != ".safetensors":
        raise ConfigError(f"the weights need a name that ends in .safetensors, got {output.name!r}.")
    check_output(output, overwrite=overwrite)
    smaller = None if begin is None else load_start(begin)
    config = replace(config, begun_from="" if begin is None else sha256(begin.read_bytes()).hexdigest()[:16])
    checkpoint = output.with_suffix(".checkpoint")
    source: Images
    if images is None:
        source = LeavesPool(output.with_suffix(".leaves"), config.seed, config.leaves)
    else:
        source = read_bands(images, config.patch * max(config.scales), listener)
    check_checkpoint(checkpoint, config)
    with _Log(output.with_suffix(".csv"), listener) as log:
        weights = train_start(source, config, checkpoint=checkpoint, begin=smaller, listener=log)
    save_start(output, dict(weights), {**asdict(config), "images_from": "leaves" if images is None else "a folder"})
    checkpoint.unlink(missing_ok=True)
    return output


class _Log:
    """Writes the reported losses to a CSV file, and hands every event on."""

    def __init__(self, path: Path, listener: Listener) -> None:
        self._path, self._listener = path, listener

    def __enter__(self) -> "_Log":
        try:
            self._file = self._path.open("a", newline="", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"cannot write the log {self._path}: {error}.") from error
        self._rows = csv.writer(self._file)
        if self._file.tell() == 0:
            self._rows.writerow(["step", "loss", "learning_rate"])
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __call__(self, event: Event, /) -> None:
        if isinstance(event, StepDone) and event.values:
            self._rows.writerow([event.step, f"{event.values['loss']:.6f}", f"{event.values['learning_rate']:.3e}"])
            self._file.flush()
        self._listener(event)


class _Bands:
    """Bands in memory, drawn from in turn whatever number is asked for."""

    def __init__(self, bands: list[NDArray[np.uint8]]) -> None:
        self._bands = bands

    def __len__(self) -> int:
        return len(self._bands)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return self._bands[index % len(self._bands)]


def read_bands(folder: Path, least_side: int, listener: Listener = ignore) -> _Bands:
    """Read the photographs of a folder as bands of bytes: luma of colour, every band of anything else.

    Args:
        folder: Searched with its subfolders, in the order of the names.
        least_side: Pictures that are smaller are left out, with a notice.
        listener: Takes the notices.

    Raises:
        ImageError: There is no folder, no picture in it, or none that is large enough.
    """
    if not folder.is_dir():
        raise ImageError(f"{folder}: needed a folder of pictures to learn from; name one that exists")
    bands: list[NDArray[np.uint8]] = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES):
        pixels = read_photo(path).pixels
        if min(pixels.shape[:2]) < least_side:
            message = f"{path.name} is left out: {least_side} px a side are needed to cut from."
            listener(Notice(stage="train-start", message=message))
            continue
        planes = to_planes(torch.from_numpy(pixels).permute(2, 0, 1)[None])
        count = 1 if len(planes) == 3 else len(planes)
        bands += [np.round(plane[0].numpy() * 255).astype(np.uint8) for plane in planes[:count]]
    if not bands:
        raise ImageError(f"{folder}: needed pictures of {least_side} px a side or more to learn from, found none")
    return _Bands(bands)
