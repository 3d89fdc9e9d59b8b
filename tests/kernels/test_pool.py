"""Pools of kernels and noise: drawing, the file, and what counts as noise."""

import numpy as np
import pytest

from blindsr.errors import KernelError
from blindsr.kernels import Kernel, KernelStack, gaussian, load_kernel
from blindsr.kernels.pool import KernelPool, noise_patches, read_pool

KERNELS = (gaussian([[2.0, 0.5], [0.5, 1.0]], 2), gaussian(0.6, 2), gaussian(3.0, 2))


def pool(noise=None):
    patches = np.zeros((0, 8, 8, 3), np.float32) if noise is None else noise
    return KernelPool(KERNELS, ("one", "two", "three"), patches)


def white(rng, count=5, side=8, bands=3, sigma=0.01):
    return (sigma * rng.standard_normal((count, side, side, bands))).astype(np.float32)


def test_every_kernel_is_drawn():
    rng = np.random.default_rng(0)
    assert {pool().draw_kernel(rng).digest for _ in range(60)} == {kernel.digest for kernel in KERNELS}


def test_a_file_holds_the_same_kernels_and_noise(rng, tmp_path):
    made = pool(white(rng))
    (tmp_path / "pool.npz").write_bytes(made.to_bytes())
    again = read_pool(tmp_path / "pool.npz")
    assert again.names == made.names
    for kernel, original in zip(again.kernels, made.kernels, strict=True):
        assert np.array_equal(kernel.array, original.array)
        assert dict(kernel.provenance) == dict(original.provenance)
    np.testing.assert_allclose(again.noise, made.noise, atol=2e-5)
    assert made.to_bytes() == made.to_bytes()


def test_the_file_is_also_one_of_several_kernels(tmp_path):
    (tmp_path / "pool.npz").write_bytes(pool().to_bytes())
    stack, _ = load_kernel(tmp_path / "pool.npz", 2)
    assert isinstance(stack, KernelStack)
    assert stack.names == ("one", "two", "three")


def test_noise_for_an_image_has_the_strength_of_the_patches(rng):
    noise = pool(white(rng, 50)).draw_noise(61, 45, 3, np.random.default_rng(1))
    assert noise.shape == (61, 45, 3)
    assert noise.std() == pytest.approx(0.01, rel=0.05)
    assert pool(white(rng)).draw_noise(5, 4, 1, np.random.default_rng(1)).shape == (5, 4, 1)


def test_the_same_generator_draws_the_same_noise(rng):
    made = pool(white(rng))
    first, second = (made.draw_noise(20, 20, 3, np.random.default_rng(4)) for _ in range(2))
    assert np.array_equal(first, second)


def test_a_pool_without_noise_says_so():
    with pytest.raises(KernelError, match="no patches of noise"):
        pool().draw_noise(8, 8, 3, np.random.default_rng(0))


def test_smooth_patches_are_noise_and_texture_gradients_and_black_are_not(rng):
    image = np.full((64, 160, 3), 0.5, np.float32)
    image += 0.01 * rng.standard_normal(image.shape).astype(np.float32)
    image[:, 32:64] += 0.2 * rng.standard_normal((64, 32, 3)).astype(np.float32)
    image[:, 64:96] += np.linspace(-0.03, 0.03, 32, dtype=np.float32)[:, None]
    image[:, 96:128] -= 0.45
    image[:, 128:] = 0.4  # without any noise
    found = noise_patches(image, side=32)
    assert found.shape == (2, 32, 32, 3)
    np.testing.assert_allclose(found.mean((1, 2)), 0, atol=1e-6)
    assert found.std() == pytest.approx(0.01, rel=0.1)


def test_an_image_smaller_than_a_patch_has_none():
    assert noise_patches(np.zeros((20, 70, 1), np.float32)).shape == (0, 64, 64, 1)


def test_what_is_no_pool_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", kernel=np.ones((2, 2)))
    with pytest.raises(KernelError, match=r"other\.npz is no pool of kernels"):
        read_pool(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("text", encoding="utf-8")
    with pytest.raises(KernelError, match=r"text\.npz is no pool of kernels"):
        read_pool(tmp_path / "text.npz")
    with pytest.raises(KernelError, match=r"none\.npz cannot be read \(No such file"):
        read_pool(tmp_path / "none.npz")
    with pytest.raises(KernelError, match="a name for each"):
        KernelPool(KERNELS, ("one",), np.zeros((0, 8, 8, 3), np.float32))
    with pytest.raises(KernelError, match="one scale"):
        KernelPool((KERNELS[0], Kernel(np.full((3, 3), 1 / 9), 3)), ("a", "b"), np.zeros((0, 8, 8, 3), np.float32))
    with pytest.raises(KernelError, match=r"\(N, P, P, C\)"):
        KernelPool(KERNELS[:1], ("a",), np.zeros((8, 8, 3), np.float32))


@pytest.mark.parametrize(
    "change",
    [
        {"kernels": np.full((3, 4, 4), "a")},
        {"noise": np.zeros(3)},
        {"provenance": np.str_('{"one": 3}')},
    ],
)
def test_a_pool_with_other_content_is_refused_or_read_without_it(tmp_path, change):
    content = {"kernels": np.ones((3, 4, 4)), "bands": np.array(["one", "two", "three"]), "scale": np.int64(2)}
    np.savez(tmp_path / "pool.npz", **{**content, **change})
    if "provenance" in change:
        assert len(read_pool(tmp_path / "pool.npz").kernels) == 3
    else:
        with pytest.raises(KernelError, match=r"pool\.npz (is no pool|must hold)"):
            read_pool(tmp_path / "pool.npz")


@pytest.mark.parametrize("scale", [2.7, 0, -2, np.nan, [2, 2]])
def test_the_scale_of_a_pool_must_be_a_whole_number_of_1_or_more(tmp_path, scale):
    path = tmp_path / "pool.npz"
    np.savez(path, kernels=np.full((1, 2, 2), 0.25), bands=["one"], scale=scale)
    with pytest.raises(KernelError, match=r"the scale in pool\.npz must be one whole number, 1 or more, it is"):
        read_pool(path)
