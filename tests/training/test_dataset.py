"""Training patches of photographs and dead leaves."""

import numpy as np
import pytest
from PIL import Image
from skimage import data

from blindsr.errors import ImageError
from blindsr.training.dataset import SHARD, DeadLeavesCache, Patches, _area, _lanczos, _shrunk, read_photographs
from blindsr.training.dead_leaves import DeadLeavesConfig, dead_leaves

SIZE = DeadLeavesConfig(size=48)


@pytest.fixture(scope="module")
def leaves(tmp_path_factory):
    return DeadLeavesCache(tmp_path_factory.mktemp("leaves"), 0, SIZE)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "more").mkdir()
    Image.fromarray(data.astronaut()[:200, :210]).save(tmp_path / "a.png")
    Image.fromarray(data.camera()[:230, :200]).save(tmp_path / "more" / "b.png")
    Image.fromarray(data.camera()[:30, :200]).save(tmp_path / "small.png")
    return tmp_path


def test_the_cache_holds_the_images_of_the_series(tmp_path):
    config = DeadLeavesConfig(size=16)
    cache = DeadLeavesCache(tmp_path / "new", 2, config)
    assert np.array_equal(cache[SHARD + 3], dead_leaves(2, SHARD + 3, config))
    assert cache.path(1).exists()
    assert not cache.path(0).exists()
    assert np.array_equal(DeadLeavesCache(tmp_path / "new", 2, config)[SHARD + 3], cache[SHARD + 3])


def test_a_broken_photograph_is_skipped_with_a_notice_and_a_hidden_one_without(folder):
    (folder / "broken.jpg").write_bytes(b"")
    (folder / "._coffee.jpg").write_bytes(b"")
    notices = []
    photographs = read_photographs(folder, 64, notices.append)
    assert len(photographs[0]) == 2
    (broken,) = [event.message for event in notices if "small.png" not in event.message]
    assert broken.startswith("broken.jpg is skipped: ")


def test_photographs_are_read_at_several_sizes(folder):
    notices = []
    photographs = read_photographs(folder, 64, notices.append)
    assert [[p.shape for p in pictures] for pictures in photographs] == [
        [(200, 210, 3), (230, 200, 1)],
        [(140, 147, 3), (161, 140, 1)],
        [(100, 105, 3), (115, 100, 1)],
        [(70, 74, 3), (80, 70, 1)],
    ]
    assert "small.png is skipped: training patches need 64 px" in notices[0].message
    assert len(notices) == 1
    assert np.array_equal(photographs[0][0], data.astronaut()[:200, :210])
    assert photographs[3][0].mean() == pytest.approx(photographs[0][0].mean(), abs=0.5)
    assert [len(pictures) for pictures in read_photographs(folder, 120)] == [2, 2, 0, 0]


def test_a_folder_without_photographs_is_refused(folder):
    with pytest.raises(ImageError, match="training needs a folder of photographs"):
        read_photographs(folder / "no", 64)
    with pytest.raises(ImageError, match=r"training needs photographs of 300 px a side or more, .* has none"):
        read_photographs(folder, 300)


@pytest.mark.parametrize(
    ("kernel", "filter_"),
    [
        ((_lanczos, 3.0), Image.Resampling.LANCZOS),
        (None, Image.Resampling.BICUBIC),
        ((_area, 0.5), Image.Resampling.BOX),
    ],
    ids=["lanczos", "bicubic", "area"],
)
@pytest.mark.parametrize("factor", [0.7, 0.35])
def test_photographs_are_shrunk_as_other_programs_do(kernel, filter_, factor):
    pixels = data.astronaut()[:150, :131]
    height, width = round(150 * factor), round(131 * factor)
    expected = np.asarray(Image.fromarray(pixels).resize((width, height), filter_), np.float32)
    result = _shrunk(pixels.astype(np.float32) / 255, (height, width), kernel) * 255
    difference = np.abs(result.clip(0, 255) - expected)[4:-4, 4:-4]
    assert result.shape == expected.shape
    assert difference.mean() < 0.5
    assert difference.max() < 2.6  # Pillow rounds to 8 bits after each axis, and clips


def test_patches_of_photographs_have_colour_and_dead_leaves_have_their_share(folder, leaves):
    photographs = [pictures[:1] for pictures in read_photographs(folder, 64)]
    patches, rng = Patches(leaves, 4, photographs, 0.25), np.random.default_rng(0)
    drawn = [patches.draw(rng, 40) for _ in range(200)]
    for patch, coloured in drawn:
        assert patch.shape == (40, 40, 3)
        assert patch.dtype == np.float32
        assert 0 <= patch.min() <= patch.max() <= 1
        assert coloured or np.array_equal(patch[..., 0], patch[..., 2])
    assert np.mean([coloured for _, coloured in drawn]) == pytest.approx(0.75, abs=0.08)


def test_gray_photographs_give_patches_without_colour(folder, leaves):
    photographs = [pictures[1:] for pictures in read_photographs(folder, 64)]
    patches, rng = Patches(leaves, 4, photographs, 0.0), np.random.default_rng(0)
    assert not any(patches.draw(rng, 40)[1] for _ in range(20))


def test_dead_leaves_alone_have_weak_chroma(leaves):
    patches, rng = Patches(leaves, 4), np.random.default_rng(0)
    drawn = [patches.draw(rng, 40) for _ in range(100)]
    coloured = [patch for patch, has_colour in drawn if has_colour]
    assert len(coloured) == pytest.approx(75, abs=15)
    luma = np.array([(patch @ [0.299, 0.587, 0.114]).std() for patch in coloured])
    chroma = np.array([(patch[..., 2] - patch[..., 1]).std() for patch in coloured])
    assert (chroma > 0).all()
    assert np.median(chroma / luma) < 0.7


def test_the_same_generator_draws_the_same_patch(leaves):
    patches = Patches(leaves, 4)
    first, second, other = (patches.draw(np.random.default_rng(seed), 40)[0] for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
