"""A file is there as a whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from blindsr.errors import OutputError
from blindsr.image_io import atomic_write_bytes, check_output


def failing(number):
    def fail(*_args, **_kwargs):
        raise OSError(number, os.strerror(number))

    return fail


def test_the_bytes_arrive_and_nothing_else_is_left(tmp_path):
    atomic_write_bytes(tmp_path / "a b'\n é.npz", b"content", overwrite=False)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a b'\n é.npz", b"content")]


def test_a_new_file_has_the_usual_permissions(tmp_path):
    atomic_write_bytes(tmp_path / "a", b"", overwrite=False)
    (tmp_path / "b").touch()
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_an_existing_file_is_refused_and_kept(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    for refuse in (lambda p: check_output(p, overwrite=False), lambda p: atomic_write_bytes(p, b"", overwrite=False)):
        with pytest.raises(
            OutputError,
            match=r"exists already; use --force to overwrite it \(overwrite=True",
        ):
            refuse(tmp_path / "a")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


def test_a_link_to_nowhere_exists_too(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputError, match="exists already"):
        check_output(tmp_path / "a", overwrite=False)


def test_overwrite_replaces(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    atomic_write_bytes(tmp_path / "a", b"new", overwrite=True)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"new")]


def test_a_file_that_appears_during_the_writing_wins(tmp_path, monkeypatch):
    real = os.fsync

    def fsync(descriptor):
        (tmp_path / "a").write_bytes(b"first")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OutputError, match="exists already"):
        atomic_write_bytes(tmp_path / "a", b"second", overwrite=False)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"first")]


def test_a_file_system_without_hard_links_is_written_too(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "hardlink_to", failing(errno.EPERM))
    atomic_write_bytes(tmp_path / "a", b"content", overwrite=False)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"content")]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full: a needs 2.0 MB in .*; free some space"),
        (errno.EACCES, "cannot write in the folder .*; change its permissions"),
        (errno.EIO, "cannot write .*; choose another place"),
    ],
)
@pytest.mark.parametrize("call", ["open", "fsync", "replace"])
def test_a_refusing_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, call, number, message):
    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(*{"replace": (Path, "replace")}.get(call, (os, call)), failing(number))
    with pytest.raises(OutputError, match=message):
        atomic_write_bytes(tmp_path / "a", bytes(2_000_000), overwrite=True)
    monkeypatch.undo()
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_truly_full_device_is_reported_as_a_full_disk(tmp_path, monkeypatch):
    real = os.open

    def on_a_full_disk(path, *args, **kwargs):
        os.close(real(path, *args, **kwargs))
        return real("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(os, "open", on_a_full_disk)
    with pytest.raises(OutputError, match="the disk is full"):
        atomic_write_bytes(tmp_path / "a", bytes(1000), overwrite=False)
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write_bytes(tmp_path / "a", b"content", overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder(tmp_path):
    with pytest.raises(OutputError, match=r"the folder of the output is missing: .*; create it"):
        check_output(tmp_path / "b" / "a.png", overwrite=False)


def test_a_folder_as_output(tmp_path):
    with pytest.raises(OutputError, match="is a folder; name a file in it"):
        check_output(tmp_path, overwrite=True)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "b").touch()
    with pytest.raises(OutputError, match=r"must be a folder to write a.png in, it is a file|Not a directory"):
        check_output(tmp_path / "b" / "a.png", overwrite=False)


def test_a_folder_that_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match=r"cannot write in the folder .*; change its permissions"):
        check_output(tmp_path / "a.png", overwrite=False)


@pytest.mark.parametrize("name", ["x" * 300 + ".png", "a\x00.png"])
def test_a_name_that_no_file_can_have(tmp_path, name):
    with pytest.raises(OutputError):
        atomic_write_bytes(tmp_path / name, b"", overwrite=False)
    assert list(tmp_path.iterdir()) == []
