"""The images of a batch, and the names of their results."""

import glob
import os
import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from blindsr.errors import ConfigError, ImageError, OutputError, listed, reason_of
from blindsr.image_io import readable_suffixes, unread_suffixes, writable_suffixes

__all__ = ["DEFAULT_NAME", "InputFile", "Inputs", "Naming", "find_inputs", "is_pattern"]

DEFAULT_NAME = "{stem}_blindsr_{label}"
_SAFE_BAND = re.compile(r"_(B\d\d|B8A)(?:_(\d+)m)?\.jp2$")  # of level 1C, or of 2A with its resolution
_FIELDS = ("stem", "suffix", "folder", "label", "scale", "preset")


@dataclass(frozen=True, slots=True)
class InputFile:
    """An image file, and the folder below the output folder in which its result is placed."""

    path: Path
    folder: PurePath = field(default_factory=PurePath)
    band: str | None = None  # of a Sentinel-2 product


@dataclass(frozen=True, slots=True)
class Inputs:
    """The images that were found."""

    files: tuple[InputFile, ...]  # in the order of the arguments, and by name within a folder
    problems: tuple[tuple[Path, str], ...] = ()  # folders that cannot be listed, devices and pipes, with the reason
    unread: str = ""  # a sentence on the images in folders whose kinds are not read

    def common_folder(self) -> Path:
        """The deepest folder that contains all images."""
        folders = [file.path.absolute().parent for file in self.files] or [Path.cwd()]
        above = (folders[0], *folders[0].parents)
        return next(folder for folder in above if all(other.is_relative_to(folder) for other in folders))


def is_image(path: Path) -> bool:
    """Whether a path has the suffix of an image that can be read and is not the plot of a kernel."""
    return path.suffix.lower() in readable_suffixes() and not path.stem.endswith(".kernel")


def is_safe(path: Path) -> bool:
    """Whether a path is the folder of a Sentinel-2 product."""
    return path.name.upper().endswith(".SAFE") and os.path.isdir(path)  # noqa: PTH112


def is_pattern(argument: Path) -> bool:
    """Whether an argument is a glob pattern: it has `*`, `?` or `[`, and no file has this very name."""
    return glob.has_magic(str(argument)) and not os.path.lexists(argument)


def find_inputs(arguments: Iterable[Path], *, recursive: bool = False, exclude: Path | None = None) -> Inputs:
    """Find the images that files, folders and glob patterns ("shots/*.jpg") name, each once.

    A folder stands for its images by suffix that are not hidden. A folder NAME.SAFE is a Sentinel-2 product: it stands
    for its bands, each at its own resolution (`IMG_DATA/R10m` before `R20m`), and not for its masks, classifications
    and previews.

    Symbolic links to folders are followed; one that leads back into itself ends there. A file is used whatever its
    suffix is, even if it is missing: the run reports it. Images that blindsr has written are left out, so that a
    command can be repeated where the results lie beside the images, unless one is the only argument.

    Args:
        arguments: Files, folders and patterns.
        recursive: Search the folders in folders as well.
        exclude: A folder that is not searched: the output folder, if it lies inside an input folder.

    Raises:
        ImageError: There is no image at all, or a pattern matches nothing.
    """
    search = _Search(recursive, None if exclude is None else os.path.realpath(exclude))
    arguments = list(arguments)
    for argument in arguments:
        search.add_argument(argument, is_single=len(arguments) == 1)
    if not search.files and not search.problems:
        raise ImageError(f"no image was found in {listed(arguments, 3)}; {search.unread() or search.advice()}.")
    return Inputs(tuple(search.files.values()), tuple(search.problems), search.unread())


class _Search:
    def __init__(self, recursive: bool, exclude: str | None) -> None:
        self.recursive = recursive
        self.exclude = exclude
        self.files: dict[str, InputFile] = {}
        self.problems: list[tuple[Path, str]] = []
        self.results = self.folders = 0
        self.suffixes = Counter[str]()  # of images that are not read

    def unread(self) -> str:
        """A sentence on the images that are not read, without its full stop; "" where there are none."""
        if not self.suffixes:
            return ""
        count = self.suffixes.total()
        kinds = ", ".join(f"{suffix} ({number})" for suffix, number in sorted(self.suffixes.items()))
        files = "1 file of a kind that is" if count == 1 else f"{count} files of kinds that are"
        return f"{files} not read: {kinds}; convert {'it' if count == 1 else 'them'} to PNG or TIFF"

    def advice(self) -> str:
        if self.folders and not self.recursive:
            return "to search the folders in it, use recursive=True (--recursive)"
        if self.results:
            what = "the image" if self.results == 1 else f"the {self.results} images"
            verb = "is" if self.results == 1 else "are"
            return f"{what} written by blindsr {verb} left out in folders; name such files one by one"
        return "name image files, or folders that contain some"

    def add_argument(self, argument: Path, *, is_single: bool) -> None:
        if is_pattern(argument):
            self._add_pattern(argument)
        elif is_safe(argument):
            self._add_safe(argument, PurePath())
        elif os.path.isdir(argument):  # noqa: PTH112  # False where pathlib raises, such as for a name that is too long
            self._add_folder(argument, PurePath(), ())
        elif is_single:
            self._add_file(argument, PurePath())
        else:
            self._add_image(argument, PurePath())

    def _add_pattern(self, argument: Path) -> None:
        parts = argument.parts
        first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        base = Path(*parts[:first])
        paths = [path for path in sorted(base.glob(str(Path(*parts[first:])))) if is_image(path) and path.is_file()]
        paths = [path for path in paths if not any(part.startswith(".") for part in path.relative_to(base).parts)]
        if not paths:
            raise ImageError(f"no image matches {argument}; check the pattern, or name files and folders.")
        for path in paths:
            self._add_image(path, path.parent.relative_to(base))

    def _add_folder(self, folder: Path, relative: PurePath, ancestors: tuple[tuple[int, int], ...]) -> None:
        try:
            status = folder.stat()
            entries = sorted(folder.iterdir())
        except OSError as error:
            self.problems.append((folder, f"the folder cannot be listed ({reason_of(error)})"))
            return
        identity = (status.st_dev, status.st_ino)
        if identity in ancestors:
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if os.path.isdir(entry):  # noqa: PTH112
                self.folders += 1
                if self.recursive and is_safe(entry):
                    self._add_safe(entry, relative / entry.name)
                elif self.recursive and os.path.realpath(entry) != self.exclude:
                    self._add_folder(entry, relative / entry.name, (*ancestors, identity))
            elif is_image(entry):
                self._add_image(entry, relative)
            elif entry.suffix.lower() in unread_suffixes():
                self.suffixes[entry.suffix.lower()] += 1

    def _add_safe(self, folder: Path, relative: PurePath) -> None:
        """Add the bands of a Sentinel-2 product."""
        best: dict[tuple[Path, str], tuple[int, Path]] = {}
        for path in sorted(folder.glob("GRANULE/*/IMG_DATA/**/*.jp2")):
            if match := _SAFE_BAND.search(path.name):
                granule, resolution = path.relative_to(folder).parts[1], int(match[2] or 0)
                key = (folder / granule, match[1])
                if key not in best or resolution < best[key][0]:
                    best[key] = (resolution, path)
        if not best:
            problem = "the Sentinel-2 product has no band (GRANULE/*/IMG_DATA/…_B04.jp2); get a complete one"
            self.problems.append((folder, f"{problem}."))
        for (_, band), (_, path) in sorted(best.items(), key=lambda item: item[0]):
            self._add_file(path, relative, band)

    def _add_image(self, path: Path, relative: PurePath) -> None:
        if _is_result(path):
            self.results += 1
        else:
            self._add_file(path, relative)

    def _add_file(self, path: Path, relative: PurePath, band: str | None = None) -> None:
        if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113  # reading a pipe may block for ever
            self.problems.append((path, "this is a device or a pipe; save it as a file."))
            return
        # One file by two arguments is one image. Two links to it are two: they have names of their own.
        self.files.setdefault(os.path.normpath(path.absolute()), InputFile(path, relative, band))


def _is_result(path: Path) -> bool:
    """Whether blindsr wrote an image, a result or the plot of a kernel: kernel and record lie beside it."""
    stem = path.stem.removesuffix(".kernel")
    base = path.with_name(stem)
    has_kernel = os.path.exists(f"{base}.kernel.npz")  # noqa: PTH110
    return has_kernel and (path.stem != stem or os.path.exists(f"{base}.json"))  # noqa: PTH110


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """The rule by which results are named.

    Fields of the template: {stem} and {suffix} (without its dot) of the image, {folder} that contains it, {label}
    ("x2"), {scale} ("2") and {preset}.

    Raises:
        ConfigError: The template has an unknown field, contains a folder, or would give all results one name.
    """

    output: Path | None = None  # its tree is that of the inputs; None puts each result beside its image
    template: str = DEFAULT_NAME  # a suffix at its end chooses the format
    label: str = "x2"  # the enlargement, as in the name of a single result: "x2", "x2x3", "1920x1080"
    preset: str = "default"  # name of the preset
    suffix: str | None = None  # suffix of every result, with its dot; None leaves it to the template or to the image
    page: str = ""  # the requested page of every file, which follows the stem: "_page2"

    def __post_init__(self) -> None:
        """Check the template, so that no name fails after hours of work."""
        fields = f"the fields are {', '.join(f'{{{name}}}' for name in _FIELDS)}"
        try:
            parts = list(string.Formatter().parse(self.template))
        except ValueError as error:
            raise ConfigError(f"the name template {self.template!r} cannot be parsed ({error}); {fields}.") from error
        # Plain names only: "{stem.__class__}" and "{scale:>9999999999}" are no file names.
        for _, name, format_, conversion in parts:
            if name is not None and (name not in _FIELDS or format_ or conversion):
                raise ConfigError(f"the name template {self.template!r} has an unknown field {{{name}}}; {fields}.")
        if "stem" not in {name for _, name, _, _ in parts}:
            raise ConfigError(f"the name template {self.template!r} lacks {{stem}}: all results would have one name.")
        suffix, others = Path(self.template).suffix.lower(), {*readable_suffixes(), *unread_suffixes()}
        if suffix in others.difference(writable_suffixes()):
            raise ConfigError(
                f"the name template {self.template!r} ends with {suffix}, which is not written; formats that are: "
                f"{', '.join(writable_suffixes())}."
            )
        if "/" in self.template or "\\" in self.template:
            raise ConfigError(f"the name template {self.template!r} must name a file without a folder.")

    @property
    def has_suffix(self) -> bool:
        """Whether `target` gives complete names; if not, the samples of the image decide on PNG or TIFF."""
        return self.suffix is not None or Path(self.template).suffix.lower() in writable_suffixes()

    def target(self, file: InputFile, *, with_input_suffix: bool = False) -> Path:
        """The result of an image, without a suffix unless `has_suffix`; "a_jpg_blindsr_x2" `with_input_suffix`."""
        suffix = file.path.suffix.removeprefix(".")
        stem = f"{file.path.stem}_{suffix}" if with_input_suffix and suffix else file.path.stem
        name = self.template.format(
            stem=stem + self.page,
            suffix=suffix,
            label=self.label,
            scale=self.label.removeprefix("x"),
            preset=self.preset,
            folder=file.path.absolute().parent.name,
        )
        if self.suffix is not None and Path(name).suffix.lower() != self.suffix:
            name += self.suffix
        return (file.path.parent if self.output is None else self.output / file.folder) / name

    def candidates(self, target: Path) -> list[Path]:
        """The files that a result may be, with every suffix that the image may decide on."""
        return [target] if self.has_suffix else [target.with_name(target.name + s) for s in writable_suffixes()]

    def targets(self, files: Sequence[InputFile]) -> list[Path]:
        """The result of each image; those that would share a name get the suffixes of their images into it.

        Raises:
            OutputError: Two results would share a name all the same.
        """
        targets = [self.target(file) for file in files]
        counts = Counter(map(self._stem, targets))
        targets = [
            target if counts[self._stem(target)] == 1 else self.target(file, with_input_suffix=True)
            for file, target in zip(files, targets, strict=True)
        ]
        owners: dict[Path, Path] = {}
        collisions = []
        for file, target in zip(files, targets, strict=True):
            owner = owners.setdefault(self._stem(target), file.path)
            if owner is not file.path:
                collisions.append(f"{owner} and {file.path} → {target}")
        if collisions:
            raise OutputError(
                f"two images would have one result: {listed(collisions, 3, '; ')}. Nothing was done; put "
                "{folder} into the names (name=, --name), or give the folder that contains both with recursive=True "
                "(--recursive)."
            )
        return targets

    def _stem(self, target: Path) -> Path:
        """What the kernel and the record are named after: a.png and a.tif would share them."""
        return (target.with_suffix("") if self.has_suffix else target).absolute()
