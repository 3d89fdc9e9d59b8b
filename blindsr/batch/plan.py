"""What a batch will do, decided before any work, and the manifest of what it has done."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from blindsr.batch.inputs import Inputs, Naming
from blindsr.batch.task import Row, Task, TaskOptions, error_text, finished_record, task_key
from blindsr.errors import ImageError, OutputError, listed, reason_of
from blindsr.image_io import ALL_PAGES, format_of, header_size
from blindsr.jsonlines import append_line, read_lines
from blindsr.pipelines.memory import needed_memory, pixel_bytes_of
from blindsr.pipelines.record import file_digest

__all__ = ["MANIFEST", "BatchPlan", "Item", "Manifest", "State", "locked", "make_plan"]

MANIFEST = "blindsr-manifest.jsonl"
# To be done; done by an earlier run of this batch; not done because a result exists; cannot be done.
State = Literal["open", "kept", "skipped", "failed"]


class Manifest:
    """The finished images as JSON lines beside the results; the last line on an image and its result counts.

    A result is proved by its own record (`blindsr.batch.task.finished_record`). The manifest makes that cheap, records
    failures, and lets one batch at a time write to a folder. Its first line creates the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[tuple[str, str], Row] = {}
        self._digests: dict[str, tuple[list[int], str]] = {}
        for row in read_lines(path):
            self._add(row)

    def _add(self, row: Row) -> None:
        if isinstance(row.get("source"), str) and isinstance(row.get("target"), str):
            self._rows[row["source"], row["target"]] = row
            if "stamp" in row and "digest" in row:
                self._digests[row["source"]] = (row["stamp"], row["digest"])

    def row(self, source: Path, target: Path) -> Row | None:
        """The last line on an image and its result."""
        return self._rows.get((self._name(source), self._name(target)))

    def digest(self, source: Path) -> str:
        """SHA-256 of an image file, which is read again (with an OSError) if its size or modification time changed."""
        status = source.stat()
        name, stamp = self._name(source), [status.st_size, status.st_mtime_ns]
        known_stamp, digest = self._digests.get(name, ([], ""))
        if not digest or known_stamp != stamp:
            digest = file_digest(source)
            self._digests[name] = (stamp, digest)
        return digest

    def write(self, source: Path, target: Path, row: Mapping[str, object]) -> None:
        """Add a line, which is on the disk when this returns; an OutputError if it cannot be written."""
        stamp, digest = self._digests.get(self._name(source), (None, None))
        line: Row = {
            "source": self._name(source),
            "target": self._name(target),
            **({} if digest is None else {"stamp": stamp, "digest": digest}),
            **row,
            "noted": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        append_line(self.path, line)
        self._add(line)

    def _name(self, path: Path) -> str:
        """The path relative to the manifest where that is shorter: the folder may be moved as a whole."""
        absolute = os.path.normpath(path.absolute())
        try:
            relative = os.path.relpath(absolute, os.path.normpath(self.path.parent.absolute()))
        except ValueError:  # another drive
            return absolute
        return absolute if relative.startswith(os.pardir + os.sep + os.pardir) else relative


@contextlib.contextmanager
def locked(path: Path) -> Iterator[Manifest]:
    """A manifest that no other batch can write to. The system releases the lock however this process ends.

    Raises:
        OutputError: Another batch holds the lock, or the folder cannot be created or written.
    """
    lock_path = path.with_name(f".{path.name}.lock")
    lock = FileLock(lock_path, timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while not _is_acquired(lock, lock_path):
            lock.release()
    except Timeout as error:
        raise OutputError(
            f"another blindsr process is working on this batch ({path}); wait for it, or choose another "
            "manifest (manifest=, --manifest)."
        ) from error
    except OSError as error:
        raise OutputError(
            f"cannot write in {path.parent} ({reason_of(error)}); choose another output folder."
        ) from error
    try:
        yield Manifest(path)  # read under the lock, so that it is complete
    finally:
        with contextlib.suppress(OSError):  # Windows removes the file itself, after the release
            lock_path.unlink()
        lock.release()


def _is_acquired(lock: FileLock, path: Path) -> bool:
    """Acquire a lock; false if what was locked is a file that another batch removed before it released the lock.

    The file is opened before, and is the one with this name afterwards: then it had the name all the time, and is the
    locked one. A removed file never gets its name back, and its number is not used again while it is open.
    """
    with path.open("a") as file:
        lock.acquire()
        try:
            return os.path.samestat(os.fstat(file.fileno()), path.stat())
        except FileNotFoundError:
            return False


@dataclass(frozen=True, kw_only=True)
class Item:
    """An image of a plan."""

    source: Path  # the image
    target: Path  # its result; see `BatchPlan.has_suffix`
    state: State  # what will happen
    row: Row | None = None  # what is known of a result that is kept, or why the image fails
    exists: Path | None = None  # the file that exists in the place of the result, if any
    size: tuple[int, int, int] | None = None  # height and width, px, and bands; None if unknown or not asked for


@dataclass(frozen=True, kw_only=True)
class BatchPlan:
    """A batch."""

    items: tuple[Item, ...]  # all images, in order
    options: TaskOptions
    has_suffix: bool  # targets are complete names; if not, the samples of each image decide on its suffix
    overwrite: bool  # existing results may be replaced
    manifest: Manifest
    warnings: tuple[str, ...] = ()

    @property
    def open(self) -> tuple[Item, ...]:
        """The images that are to be done."""
        return tuple(item for item in self.items if item.state == "open")

    def count(self, state: State) -> int:
        """Number of images in a state."""
        return sum(item.state == state for item in self.items)

    def task(self, item: Item) -> Task:
        """The task of an open item; an OSError if the image cannot be read."""
        return Task(
            source=item.source.absolute(),
            target=item.target.absolute(),
            has_suffix=self.has_suffix,
            key=task_key(self.manifest.digest(item.source), self.options),
            options=self.options,
            overwrite=self.overwrite,
        )

    def file(self, item: Item) -> Path:
        """The file of a result; the samples of the photograph may decide between two suffixes."""
        known = item.exists or item.target
        if self.has_suffix or item.exists:
            return known
        return Path(f"{known}{_suffixes(item.source, self.options)}")

    def sizes(self, item: Item) -> dict[str, int]:
        """The sizes of an image and of its result, px; empty if that of the image is unknown."""
        if item.size is None:
            return {}
        height, width, bands = item.size
        rows, columns = self.options.settings.output_size(height, width)
        return {"height": height, "width": width, "bands": bands, "result_height": rows, "result_width": columns}

    def with_sizes(self) -> "BatchPlan":
        """The plan with the size of each open image by the header of its file; without a usable one, it fails."""
        return replace(
            self, items=tuple(self._with_size(item) if item.state == "open" else item for item in self.items)
        )

    def _with_size(self, item: Item) -> Item:
        try:
            return replace(item, size=header_size(item.source, self.options.files.max_pixels))
        except ImageError as error:
            reason = str(error).removeprefix(f"{item.source}: ")
            return replace(item, state="failed", row={"status": "failed", "error": reason})

    def memory(self, workers: int) -> int | None:
        """Bytes that the batch takes at its peak, roughly, for this number of workers; None if no size is known."""
        limit, needed = self.options.max_memory, []
        upscaler = self.options.settings.create_upscaler()
        whole_image, pixel_bytes = upscaler.needs_whole_image, pixel_bytes_of(upscaler)
        for height, width, bands in (item.size for item in self.items if item.size is not None):
            scale = self.options.settings.for_image(height, width).run_scale
            memory = needed_memory(height, width, bands, scale, whole_image=whole_image, pixel_bytes=pixel_bytes)
            needed.append(memory if limit is None else min(memory, limit))
        return sum(sorted(needed)[-workers:]) if needed else None


def make_plan(
    inputs: Inputs,
    naming: Naming,
    options: TaskOptions,
    manifest: Manifest,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
) -> BatchPlan:
    """Decide what is to be done, and refuse what cannot succeed.

    A result of the same image and settings is kept. Other existing results are replaced by `overwrite`, and their
    images skipped by `skip_existing`.

    Raises:
        OutputError: Two images would have one result, or results exist and neither `overwrite` nor `skip_existing` is
            given. Nothing has been done then.
    """
    targets = naming.targets(inputs.files)
    look_up = partial(_item, options=options, manifest=manifest, naming=naming, skip_existing=skip_existing)
    items = [look_up(file.path, target) for file, target in zip(inputs.files, targets, strict=True)]
    items += [
        Item(source=path, target=path, state="failed", row={"status": "failed", "error": reason})
        for path, reason in inputs.problems
    ]
    existing = [item for item in items if item.state == "open" and item.exists]
    if existing and not overwrite:
        names = listed([item.exists for item in existing], 3)
        raise OutputError(
            f"files exist that this run would replace: {names}. Nothing was done; keep them "
            "(skip_existing=True, --skip-existing), replace them (overwrite=True, --force), or choose another folder "
            "or other names (name=, --name)."
        )
    renamed = [
        t.name if naming.has_suffix else f"{t.name} ({_suffixes(file.path, options)})"
        for file, t in zip(inputs.files, targets, strict=True)
        if t != naming.target(file)
    ]
    warning = f"{len(renamed)} images differ in their suffix alone; it is in the names of their results: "
    sources = {item.source.absolute() for item in items}
    for item in existing:
        if item.exists is not None and item.exists.absolute() in sources:
            raise OutputError(
                f"the result of {item.source} would replace {item.exists}, which is an image of this batch; choose "
                "other names (name=, --name) or another folder."
            )
    return BatchPlan(
        items=tuple(items),
        options=options,
        has_suffix=naming.has_suffix,
        overwrite=overwrite,
        manifest=manifest,
        warnings=(f"{warning}{renamed[0]}.",) if renamed else (),
    )


def _suffixes(source: Path, options: TaskOptions) -> str:
    """The suffix that `default_suffix` will choose for a result, or those that depend on the samples, in words."""
    format_ = format_of(source)
    if format_ is None:
        return ".png or .tif"
    if "cards" in format_.keeps and not options.files.strip_metadata:
        return ".fits"
    # These have grey or RGB of 8 bits, and nothing that PNG cannot hold. All images of a JPEG become pages.
    is_plain = format_.codec == "pillow" and (format_.frames == "animation" or options.files.page != ALL_PAGES)
    return ".png" if is_plain else ".png or .tif"


def _item(
    source: Path, target: Path, *, options: TaskOptions, manifest: Manifest, naming: Naming, skip_existing: bool
) -> Item:
    try:
        existing = _existing(naming.candidates(target))
        row = None if existing is None else _finished(source, target, existing, options, manifest)
    except OSError as error:  # the name is too long, or a folder cannot be searched: this image fails, and no other
        return Item(source=source, target=target, state="failed", row={"status": "failed", "error": error_text(error)})
    if existing is None:
        return Item(source=source, target=target, state="open")
    if row is None:
        return Item(source=source, target=target, state="skipped" if skip_existing else "open", exists=existing)
    if options.report and not existing.with_suffix(".html").is_file():  # the page needs a run
        return Item(source=source, target=target, state="open")
    return Item(source=source, target=target, state="kept", row=row, exists=existing)


def _existing(candidates: Sequence[Path]) -> Path | None:
    """The existing result, if any; an OSError if a file of the result cannot have its name."""
    folder = next(folder for folder in candidates[0].absolute().parents if _exists(folder))
    _exists(folder / f"{candidates[0].stem}.kernel.npz")  # the longest name, tried even if its own folder is missing
    return next((path for path in candidates if _exists(path)), None)


def _finished(source: Path, target: Path, image: Path, options: TaskOptions, manifest: Manifest) -> Row | None:
    """The row of a complete result of this batch; None if the file is another one."""
    try:
        key = task_key(manifest.digest(source), options)
    except OSError:  # the run will report it
        return None
    row = manifest.row(source, target)
    if row is not None and row.get("status") == "done" and row.get("key") == key and _is_complete(row, image):
        return row
    # Killed between the last file and its line in the manifest: the record proves the result.
    if (record := finished_record(image.with_name(image.stem + ".json"), key)) is None:
        return None
    return {
        "status": "done",
        "key": key,
        "image": {"name": image.name, "bytes": image.stat().st_size, "sha256": record["image_sha256"]},
        "names": list(record["files"].values()),
        "warnings": len(record["warnings"]),
        "seconds": record.get("seconds"),
        "not_in_manifest": True,
    }


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _is_complete(row: Row, image: Path) -> bool:
    """Whether the files of a row exist and the image has its name and size; it is not read."""
    recorded = (row.get("image", {}).get("name"), row.get("image", {}).get("bytes"))
    exist = all(image.with_name(name).is_file() for name in row.get("names", ()))
    return exist and recorded == (image.name, image.stat().st_size)
