"""Where a known kernel comes from: a sensor, a file of any format, or a picture of a PSF."""

from pathlib import Path

from blindsr.errors import KernelError
from blindsr.kernels import Kernel, centre
from blindsr.kernels.bands import BandKernels
from blindsr.kernels.conventions import Convention
from blindsr.kernels.figures import kernel_cautions
from blindsr.kernels.files import read_kernel, read_kernels
from blindsr.kernels.loading import load
from blindsr.pipelines.psf_files import PICTURES, read_psf
from blindsr.sensors.cautions import design_cautions
from blindsr.sensors.design import KernelModel
from blindsr.sensors.finding import find_sensor
from blindsr.sensors.measured import MeasuredPSF, kernel_from_psf
from blindsr.sensors.specification import Sensor

__all__ = ["kernel_from_file", "kernel_from_sensor", "kernel_from_system", "recentred"]

_MOVED = 0.005  # HR px: what is worth a sentence


def kernel_from_sensor(
    text: str, scale: int, *, model: KernelModel | None = None
) -> tuple[Kernel | BandKernels, tuple[str, ...]]:
    """The kernel, or kernels, of a sensor.

    Args:
        text: NAME or FILE.toml, with :BAND or :BAND,BAND,… behind it. Without bands, a sensor that has some stands for
            an image that has all of them in their order.
        scale: Factor from LR to HR.
        model: "psf" or "ratio"; None takes the file's, or the default.

    Returns:
        One kernel, or one for each band; and sentences for the user.

    Raises:
        ConfigError: There is no such sensor or band, or the specification breaks a rule.
        KernelError: The specification's size does not fit the scale.
    """
    sensor, bands = find_sensor(text)
    wanted: tuple[str | None, ...] = bands or sensor.bands or (None,)
    kernels, notes = [], []
    for band in wanted:
        made = sensor.kernel(scale, band=band, model=model)
        kernels.append(made.kernel)
        place = f"band {band}: " if len(wanted) > 1 else ""
        notes += [place + note for note in design_cautions(sensor.system(band), made)]
    title = f"kernel of {sensor.name}{', band ' + str(wanted[0]) if wanted[0] and len(wanted) == 1 else ''}"
    said = f"{title}: model {kernels[0].provenance['model']}, {kernels[0].size}×{kernels[0].size} px."
    if len(wanted) == 1:
        return kernels[0], (said, *notes)
    names = tuple(str(band) for band in wanted)
    return BandKernels(kernels, names), (f"{said[:-1]}; one for each of {', '.join(names)}.", *notes)


def kernel_from_system(
    sensor: Sensor, scale: int, *, model: KernelModel | None = None
) -> tuple[Kernel, tuple[str, ...]]:
    """The kernel of a sensor without bands, and sentences for the user.

    Raises:
        ConfigError: It has bands, or asks for an absurd kernel.
    """
    made = sensor.kernel(scale, model=model)
    return made.kernel, design_cautions(sensor.system(), made)


def kernel_from_file(
    path: Path,
    scale: int,
    *,
    convention: Convention | None = None,
    key: str | None = None,
    index: int | str | None = None,
    recentre: bool = False,
) -> tuple[Kernel | BandKernels, tuple[str, ...]]:
    """Read a known kernel of any format.

    Args:
        path: .npz, .npy, .mat, .txt, .csv, or a picture of a PSF on the HR grid (.tif, .png, .bmp).
        scale: Factor from LR to HR.
        convention: Of an array, or of the array in a picture; None decides, and says what it decided.
        key: Name of the array.
        index: Which one of a stack, counted from 0; "all" is one for each band.
        recentre: Move the centre of mass onto the middle.

    Returns:
        One kernel, or one for each band where the file has bands or all were asked for; and sentences for the user.

    Raises:
        KernelError: It is no usable kernel.
    """
    number = index if isinstance(index, int) else None
    if path.suffix.lower() in PICTURES:
        if key is not None or index == "all":
            raise KernelError(f"{path.name} is a picture, which holds one PSF; leave key and index out.")
        kernel, notes = _from_picture(path, scale, convention, number)
    elif index == "all" or (index is None and _has_bands(path, key)):
        kernels, names, notes = read_kernels(path, scale=scale, convention=convention or "auto", key=key)
        moved = [recentred(k) for k in kernels] if recentre else [(k, ()) for k in kernels]
        notes = (*notes, *(note for _, said in moved for note in said))
        return BandKernels([k for k, _ in moved], names or [str(i) for i in range(len(kernels))]), notes
    else:
        kernel, notes = read_kernel(path, scale=scale, convention=convention or "auto", key=key, index=number)
    if recentre:
        kernel, said = recentred(kernel)
        notes = (*notes, *said)
    return kernel, (*notes, *kernel_cautions(kernel))


def _has_bands(path: Path, key: str | None) -> bool:
    return path.suffix.lower() == ".npz" and path.is_file() and bool(load(path, key).names)


def _from_picture(
    path: Path, scale: int, convention: Convention | None, index: int | None
) -> tuple[Kernel, tuple[str, ...]]:
    psf, notes = read_psf(path, index=index)
    if convention is not None:
        from blindsr.kernels.files import judge_array
        from blindsr.sensors.measured import without_background

        light, said = without_background(psf)
        kernel, more = judge_array(light, path.name, scale, convention)
        return kernel, (*notes, *([said] if said else []), *more)
    kernel, more = kernel_from_psf(psf, scale, MeasuredPSF(model="psf", notes=notes))
    assumed = (
        f"{path.name} was read as a picture of the PSF on the result's pixels: turned by 180°, because a PSF "
        "convolves, and normalised; blindsr kernel from-psf reads one of other pixels."
    )
    origin = {"made_by": "psf", "file": path.name}
    return Kernel(kernel.array, scale, origin), (*more, assumed)


def recentred(kernel: Kernel) -> tuple[Kernel, tuple[str, ...]]:
    """Move the centre of mass onto the middle, and say by how much."""
    y, x = kernel.centroid
    if max(abs(y), abs(x)) < _MOVED:
        return kernel, ()
    origin = {**kernel.provenance, "recentred_by": [round(-float(y), 4), round(-float(x), 4)]}
    # Where it lies is decided now, whoever guessed its convention.
    origin.pop("convention_guessed", None)
    moved = Kernel(centre(kernel).array, kernel.scale, origin)
    return moved, (f"the kernel was moved by ({-y:+.2f}, {-x:+.2f}) HR pixels (y, x) onto its centre.",)
