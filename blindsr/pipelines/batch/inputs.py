"""Which photographs a batch is about: files, folders and globs, each with its place in the tree under the output."""

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from blindsr.errors import ImageError
from blindsr.pipelines.folders import is_picture

__all__ = ["Found", "Inputs", "find_photos", "is_pattern"]


@dataclass(frozen=True, slots=True)
class Found:
    """A photograph, and the folder that its result gets under the output folder."""

    path: Path
    folder: PurePath = field(default_factory=PurePath)


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was found.

    Args:
        photos: In the order of the arguments, and of their names within one.
        passed_over: Files in the folders that are no pictures by their suffix.
        results: Pictures in the folders that blindsr made.
        problems: Folders that could not be looked into, and pipes, with the reason: nothing is left out in silence.
    """

    photos: tuple[Found, ...]
    passed_over: int = 0
    results: int = 0
    problems: tuple[tuple[Path, str], ...] = ()


def is_pattern(argument: Path) -> bool:
    """Whether an argument is a glob: it has `*`, `?` or `[`, and no file has that very name."""
    return glob.has_magic(str(argument)) and not os.path.lexists(argument)


def find_photos(arguments: Iterable[Path], *, recursive: bool = False, avoid: Path | None = None) -> Inputs:
    """Find the photographs that files, folders and globs name.

    Of a folder those are taken that have the suffix of a picture and are not hidden. Links to folders are followed; one
    that leads back into itself ends there. A file that is named is taken whatever its suffix is, also if it is missing:
    the run reports it. What blindsr made is left out, so that the same command can be given again where the results lie
    beside the photographs; only a file that is named alone is taken even then.

    Args:
        arguments: Files, folders, or globs ("shots/*.jpg", "**" goes into folders).
        recursive: Go into the folders of folders.
        avoid: A folder that is not looked into: where the results go, if that lies inside an input folder.

    Returns:
        Each photograph once.

    Raises:
        ImageError: There is none at all, or a glob fits nothing.
    """
    search = _Search(recursive, None if avoid is None else os.path.realpath(avoid))
    given = list(arguments)
    for argument in given:
        search.take(argument, alone=len(given) == 1)
    if not search.found and not search.problems:
        raise ImageError(f"no picture was found in {_listed(search.arguments)}; {search.advice()}.")
    return Inputs(tuple(search.found.values()), search.passed_over, search.results, tuple(search.problems))


class _Search:
    def __init__(self, recursive: bool, avoid: str | None) -> None:
        self.recursive = recursive
        self.avoid = avoid
        self.arguments: list[Path] = []
        self.found: dict[str, Found] = {}
        self.problems: list[tuple[Path, str]] = []
        self.passed_over = 0
        self.results = 0
        self.folders = 0

    def advice(self) -> str:
        if self.folders and not self.recursive:
            return "the folders in it were not looked into: ask for that (--recursive)"
        if self.results:
            return f"what blindsr made ({self.results} pictures) is left out in folders: name such files themselves"
        return "name files, or folders with them"

    def take(self, argument: Path, *, alone: bool) -> None:
        self.arguments.append(argument)
        if is_pattern(argument):
            self._take_pattern(argument)
        elif _is_folder(argument):
            self._take_folder(argument, PurePath(), ())
        elif not alone and _is_made(argument):
            self.results += 1
        else:
            self._add(argument, PurePath())

    def _take_pattern(self, argument: Path) -> None:
        parts = argument.parts
        first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        base = Path(*parts[:first])
        pictures = [
            path for path in sorted(base.glob(str(Path(*parts[first:])))) if is_picture(path) and path.is_file()
        ]
        pictures = [path for path in pictures if not any(p.startswith(".") for p in path.relative_to(base).parts)]
        if not pictures:
            raise ImageError(f"no picture fits {argument}; check the pattern, or name files and folders.")
        for path in pictures:
            if _is_made(path):
                self.results += 1
            else:
                self._add(path, path.parent.relative_to(base))

    def _take_folder(self, folder: Path, place: PurePath, above: tuple[tuple[int, int], ...]) -> None:
        try:
            status = folder.stat()
            entries = sorted(folder.iterdir())
        except OSError as error:
            self.problems.append((folder, f"the folder cannot be looked into ({error.strerror})"))
            return
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                self.folders += 1
                if self.recursive and os.path.realpath(entry) != self.avoid:
                    self._take_folder(entry, place / entry.name, (*above, identity))
            elif not is_picture(entry):
                self.passed_over += 1
            elif _is_made(entry):
                self.results += 1
            else:
                self._add(entry, place)

    def _add(self, path: Path, place: PurePath) -> None:
        if _is_special(path):  # who opens a pipe that nobody writes to waits for ever
            self.problems.append((path, f"{path}: this is a device or a pipe; save it as a file."))
            return
        # The same file by two arguments is one photograph. Two links to it are two: they have names of their own.
        self.found.setdefault(os.path.normpath(path.absolute()), Found(path, place))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a folder above it refuses
        return False


def _is_special(path: Path) -> bool:
    try:
        return path.exists() and not path.is_file()
    except OSError:
        return False


def _is_made(path: Path) -> bool:
    """Whether a picture was made by blindsr, a result or the drawing of a kernel: kernel and record lie beside it."""
    stem = path.stem.removesuffix(".kernel")
    kernel = path.with_name(stem + ".kernel.npz").exists()
    drawn = path.stem != stem
    return kernel and (drawn or path.with_name(stem + ".json").exists())


def _listed(paths: list[Path]) -> str:
    words = [str(path) for path in paths[:3]]
    return ", ".join(words) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
