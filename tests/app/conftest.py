"""A session of the page with photographs in it, and kernels that are not drawn."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from blindsr.app.jobs import Session

LIMIT = 2**20


@pytest.fixture
def upload(tmp_path):
    """Write what was uploaded: an array, or bytes; the path and the name."""

    def write(name, content, **options):
        path = tmp_path / "uploads" / f"{len(list(tmp_path.rglob('*')))}-{name.replace('/', '_')}"
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            Image.fromarray(content).save(path, **options)
        return path, name

    return write


@pytest.fixture
def pixels():
    """40 × 48 px, RGB, 8 bits."""
    return np.ascontiguousarray(data.astronaut()[20:68, 200:240])


@pytest.fixture
def session(tmp_path):
    return Session(tmp_path / "session", LIMIT, "cpu")
