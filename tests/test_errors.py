"""What errors have in common."""

import errno

from blindsr.errors import is_disk_full, reason_of


def test_a_reason_is_one_line_and_never_empty():
    assert reason_of(PermissionError(13, "Permission denied", "a.png")) == "Permission denied"
    assert reason_of(OSError("cannot\nread")) == "cannot read"
    assert reason_of(OSError()) == "OSError"
    assert reason_of(ValueError("two\nlines")) == "two lines"


def test_a_full_disk_is_known_by_its_number():
    assert is_disk_full(OSError(errno.ENOSPC, "No space left on device"))
    assert not is_disk_full(OSError(errno.EACCES, "Permission denied"))
    assert not is_disk_full(ValueError())
