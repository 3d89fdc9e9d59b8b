"""The memory that a job needs, and the tile that keeps it within its limit."""

import pytest

from blindsr.errors import ImageError
from blindsr.pipelines import memory
from blindsr.registry import UPSCALERS


def test_the_smaller_of_machine_and_container_limits_the_memory(monkeypatch):
    monkeypatch.setattr(memory, "_free_host", lambda: 8 * 2**30)
    monkeypatch.setattr(memory, "free_memory", lambda: 2 * 2**30)
    assert memory.available_memory() == 2 * 2**30
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    assert memory.available_memory() == 8 * 2**30
    monkeypatch.setattr(memory, "_free_host", lambda: None)
    assert memory.available_memory() is None
    assert memory.choose_tile((3, 10**6, 10**6), 4, (1, 1)) == 512  # an unknown machine refuses nothing


def test_the_tile_follows_the_memory(monkeypatch):
    shape, size = (3, 3000, 4000), (6000, 8000)
    plenty, little = (memory.choose_tile(shape, 2, size, budget=n * 2**20) for n in (8000, 1600))
    assert plenty == 1024
    assert 32 <= little < 1024
    assert memory.needed_memory(3000, 4000, 3, 2, little) <= 1600 * 2**20
    with pytest.raises(ImageError, match=r"tiles of 32 px, but the limit \(max_memory=, --max-memory\) allows 512 MiB"):
        memory.choose_tile(shape, 2, size, budget=2**29)
    monkeypatch.setattr(memory, "available_memory", lambda device: 2**30)
    with pytest.raises(
        ImageError, match=r"10000×10000 px to 1×1 px needs about 1\.\d GiB .* but 1\.0 GiB are free; crop"
    ):
        memory.choose_tile((3, 10_000, 10_000), 2, (1, 1))


def test_memory_grows_only_with_the_stored_input_and_the_width():
    tall, taller = (memory.needed_memory(height, 4000, 3, 2) for height in (4000, 8000))
    assert taller - tall == 4000 * 4000 * 3 * 2


def test_an_upscaler_of_the_whole_image_may_need_more_memory_than_zssr():
    dip, zssr = (memory.pixel_bytes_of(UPSCALERS.create(name)) for name in ("dip", "zssr"))
    needed = [memory.needed_memory(512, 512, 3, 2, whole_image=True, pixel_bytes=size) for size in (dip, zssr)]
    assert needed[0] > 5 * needed[1]
