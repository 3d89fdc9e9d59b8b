"""The files of a run, written completely or not at all."""

import contextlib
import errno
import filecmp
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blindsr.errors import OutputError, is_disk_full, reason_of
from blindsr.image_io import check_output, writable_suffixes

__all__ = ["Outputs", "Staging", "check_outputs", "image_outputs", "kernel_outputs", "leftovers", "staged"]

_KERNEL_SUFFIXES = (".npz", ".npy", ".mat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """The files of a run; `image` is None when only the kernel was wanted."""

    image: Path | None
    kernel: Path
    plot: Path
    record: Path

    @property
    def result(self) -> Path:
        """The image of a run that upscales.

        Raises:
            RuntimeError: Only the kernel was wanted.
        """
        if self.image is None:
            raise RuntimeError("upscaling writes an image")
        return self.image

    def all(self) -> tuple[Path, ...]:
        """Every file, the requested one last: when it exists, all do.

        The record is the first, so that whatever a killed run leaves behind can be attributed by the record beside it.
        """
        sidecars = (self.record, self.plot, self.kernel)
        return sidecars if self.image is None else (*sidecars, self.image)

    def names(self) -> dict[str, str]:
        """File names by role."""
        roles = {
            "image": self.image,
            "kernel": self.kernel,
            "kernel_plot": self.plot,
            "record": self.record,
        }
        return {role: path.name for role, path in roles.items() if path is not None}


def _base(photo: Path, scale: float | str) -> str:
    return f"{photo.stem}_blindsr_{scale}" if isinstance(scale, str) else f"{photo.stem}_blindsr_x{scale:g}"


def image_outputs(photo: Path, scale: float | str, suffix: str, output: Path | None = None) -> Outputs:
    """The image at `output`, by default PHOTO_blindsr_x2.png beside PHOTO; its sidecar files share its stem."""
    image = photo.with_name(_base(photo, scale) + suffix) if output is None else output
    return Outputs(
        image=image,
        kernel=image.with_name(image.stem + ".kernel.npz"),
        plot=image.with_name(image.stem + ".kernel.png"),
        record=image.with_name(image.stem + ".json"),
    )


def kernel_outputs(photo: Path, scale: float | str, output: Path | None = None) -> Outputs:
    """The kernel at `output`, by default PHOTO_blindsr_x2.kernel.npz beside the photograph.

    Raises:
        OutputError: The suffix of `output` is not one of a kernel file.
    """
    kernel = photo.with_name(_base(photo, scale) + ".kernel.npz") if output is None else output
    if kernel.suffix.lower() not in _KERNEL_SUFFIXES:
        suffixes = ", ".join(_KERNEL_SUFFIXES)
        raise OutputError(f"a kernel file must end in {suffixes}, got {kernel.name}; choose one of these suffixes.")
    stem = kernel.stem.removesuffix(".kernel")
    return Outputs(
        image=None,
        kernel=kernel,
        plot=kernel.with_name(stem + ".kernel.png"),
        record=kernel.with_name(stem + ".kernel.json"),
    )


def check_outputs(
    outputs: Outputs, source: Path, contents: Mapping[Path, bytes] | None = None, *, overwrite: bool
) -> None:
    """Refuse before the work what could not be written after it.

    Args:
        outputs: The files that will be written.
        source: The photograph, which is never overwritten.
        contents: Contents that are known already. A file with exactly that content is no obstacle: upscaling with the
            kernel file that `estimate-kernel` wrote beside the photograph is a common case.
        overwrite: Files that exist may be replaced.

    Raises:
        OutputError: A file exists and may not be overwritten, is the photograph itself, or its folder refuses.
    """
    if outputs.image is not None and not overwrite and not os.path.lexists(outputs.image):
        other = next((path for path in _in_other_formats(outputs.image) if os.path.exists(path)), None)  # noqa: PTH110
        sidecars = [path for path in outputs.all() if path != outputs.image and os.path.exists(path)]  # noqa: PTH110
        if other is not None and not other.samefile(source) and sidecars:
            raise OutputError(
                f"{sidecars[0].name} exists already, and describes {other}: two results that differ in their format "
                "alone have one name for it; choose another name, or replace what describes it and keep the image "
                "(overwrite=True, --force)."
            )
    for path in reversed(outputs.all()):
        # False where pathlib raises, such as for a name that is too long: `check_output` refuses that in its own words.
        if os.path.exists(path) and path.samefile(source):  # noqa: PTH110
            raise OutputError(f"{path} is the photograph itself, which is never overwritten; choose another name.")
        known = None if contents is None else contents.get(path)
        if known is None or not os.path.isfile(path) or path.read_bytes() != known:  # noqa: PTH113
            check_output(path, overwrite=overwrite)
    # Permissions do not reveal what a folder such as /proc refuses, so that a file is tried.
    try:
        with tempfile.TemporaryFile(prefix=".blindsr-", dir=outputs.kernel.parent):
            pass
    except OSError as error:
        # The folder exists: ENOENT is the answer of a file system such as /proc, which takes no files.
        reason = "its file system takes no new files" if error.errno == errno.ENOENT else _reason(error)
        raise OutputError(
            f"no file can be written in {outputs.kernel.parent}: {reason}; name an output in another folder."
        ) from error


def _in_other_formats(image: Path) -> list[Path]:
    return [image.with_suffix(suffix) for suffix in writable_suffixes() if suffix != image.suffix.lower()]


def _reason(error: OSError) -> str:
    return "the disk is full" if is_disk_full(error) else reason_of(error)


@dataclass(frozen=True, slots=True)
class Staging:
    """A hidden folder beside the results, in which they are completed before they get their names."""

    folder: Path

    def path(self, path: Path) -> Path:
        """The temporary name of a file that will become `path`."""
        return self.folder / path.name

    def release(self, outputs: Outputs, *, overwrite: bool) -> None:
        """Give every file its name. Each appears whole; if one cannot, the new ones before it are taken back."""
        for path in outputs.all():
            # Checked again, because another program may have written here in the meantime.
            if not (path.is_file() and filecmp.cmp(self.path(path), path, shallow=False)):
                check_output(path, overwrite=overwrite)
        new = [path for path in outputs.all() if not path.exists()]
        for path in outputs.all():
            # Flushed before it is renamed: a power failure must not leave the final name on an empty file.
            _sync(self.path(path))
        try:
            for path in outputs.all():
                self.path(path).replace(path)
            _sync(outputs.kernel.parent)
        except BaseException:
            for path in new:
                path.unlink(missing_ok=True)
            raise


def _sync(path: Path) -> None:
    # Not every system lets a folder be opened; a file that could just be written can be.
    with contextlib.suppress(PermissionError, IsADirectoryError):
        # Windows syncs only what is open for writing.
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _prefix(outputs: Outputs, run_id: str | None) -> str:
    if run_id is None:
        return ".blindsr-"
    # The name is included, so that the leftovers of two equal photographs in a folder are distinguished.
    name = f"{run_id}/{outputs.kernel.name}".encode("utf-8", "surrogateescape")
    return f".blindsr-{hashlib.sha256(name).hexdigest()[:16]}-"


def leftovers(outputs: Outputs, run_id: str) -> tuple[Path, ...]:
    """Hidden folders that a killed run of this name left beside its outputs."""
    prefix = _prefix(outputs, run_id)
    return tuple(path for path in outputs.kernel.parent.iterdir() if path.name.startswith(prefix))


@contextmanager
def staged(outputs: Outputs, run_id: str | None = None) -> Iterator[Staging]:
    """A staging folder that is removed afterwards: a full disk and Ctrl-C leave nothing behind.

    Args:
        outputs: What will be written.
        run_id: Part of the folder's name, so that `leftovers` recognises it after the process was killed.

    Raises:
        OutputError: The files cannot be written; no file of this run is left, and older files are unchanged.
    """
    parent = outputs.kernel.parent
    folder: Path | None = None
    try:
        folder = Path(tempfile.mkdtemp(prefix=_prefix(outputs, run_id), dir=parent))
        yield Staging(folder)
    except OutputError as error:
        # The user knows the folder of the results, not the hidden one in it.
        raise OutputError(str(error).replace(str(folder), str(parent))) from error
    except OSError as error:
        advice = "free some space there, or name" if is_disk_full(error) else "name"
        raise OutputError(
            f"the results cannot be written to {parent}: {_reason(error)}; {advice} an output in another folder. "
            "No incomplete file was left."
        ) from error
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
