import numpy as np
import pytest
import torch
from scipy import ndimage, signal

from blindsr.errors import KernelError
from blindsr.kernels import detect, from_convention, gaussian, to_convention
from blindsr.kernels.files import as_kernel
from blindsr.ops import degrade

CORRELATING = ["kernelgan", "generator", "fkp", "mzsr"]
SIZES = [1, 4, 5, 8, 11, 12, 13]


def correlated(image, array, scale):
    """KernelGAN, the dataset generator, FKP and MZSR: correlate, then every s-th pixel from the first."""
    return ndimage.correlate(image, array, mode="wrap")[::scale, ::scale]


def convolved(image, array, scale):
    """KAIR and USRNet: true convolution, then every s-th pixel from the first."""
    return ndimage.convolve(image, array, mode="wrap")[::scale, ::scale]


def operation(convention):
    return convolved if convention == "kair" else correlated


def ours(image, kernel):
    tensor = torch.from_numpy(image)[None, None]
    return degrade(tensor, kernel.tensor(tensor), kernel.scale)[0, 0].numpy()


def interior(lr, scale):
    """What no border can reach with kernels up to 13 px."""
    margin = 14 // scale + 2
    return lr[margin:-margin, margin:-margin]


def assert_same_lr(image, kernel, expected):
    actual = ours(image, kernel)
    height, width = actual.shape
    difference = interior(actual - expected[:height, :width], kernel.scale)
    assert difference.size > 20
    np.testing.assert_allclose(difference, 0, atol=1e-12)


def blob(size, scale, centre):
    """A Gaussian array whose centre of mass is at index `centre` on both axes."""
    index = np.arange(size) - centre
    array = np.exp(-(index[:, None] ** 2) / 2 - index[None, :] ** 2 / 1.2)
    return array / array.sum()


@pytest.mark.parametrize("convention", [*CORRELATING, "kair"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", SIZES)
def test_the_source_operation_and_degrade_give_the_same_lr(rng, convention, scale, size):
    image, array = rng.random((97, 89)), rng.random((size, size))
    array /= array.sum()
    kernel = from_convention(array, scale, convention)
    assert_same_lr(image, kernel, operation(convention)(image, array, scale))


@pytest.mark.parametrize("convention", [*CORRELATING, "kair"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_a_converted_kernel_has_the_same_effect_in_the_source_operation(rng, convention, scale):
    weights = rng.random((scale + 8, scale + 8))
    kernel = from_convention(weights, scale, "blindsr")
    image = rng.random((97, 89))
    array = to_convention(kernel, convention)
    assert array.shape[0] % 2 == 1
    assert_same_lr(image, kernel, operation(convention)(image, array, scale))


@pytest.mark.parametrize("convention", [*CORRELATING, "kair"])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_an_odd_array_comes_back_as_it_was(rng, convention, scale):
    array = rng.random((11, 11))
    array /= array.sum()
    back = to_convention(from_convention(array, scale, convention), convention)
    np.testing.assert_allclose(back, array, atol=1e-15)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_odd_kernelgan_kernel_gets_zeros_at_its_end(rng, scale):
    array = rng.random((11, 11))
    kernel = from_convention(array, scale, "kernelgan")
    assert kernel.size == 11 + scale - 1
    np.testing.assert_allclose(kernel.array[:11, :11], array / array.sum())
    assert not kernel.array[11:].any()
    assert not kernel.array[:, 11:].any()


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_kernelgan_kernel_with_its_own_centre_is_centred_here(scale):
    kernel = from_convention(blob(19, scale, 9 + (scale - 1) / 2), scale, "kernelgan")
    np.testing.assert_allclose(kernel.centroid, 0, atol=1e-3)


def test_importing_never_recentres():
    array = blob(19, 2, 11.0)
    kernel = from_convention(array, 2, "kernelgan")
    np.testing.assert_allclose(kernel.centroid, 1.5, atol=1e-3)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_kair_kernel_with_its_own_centre_is_centred_here(scale):
    kernel = from_convention(blob(19, scale, 9 - (scale - 1) / 2), scale, "kair")
    np.testing.assert_allclose(kernel.centroid, 0, atol=1e-3)


def test_blindsr_arrays_are_not_changed():
    kernel = gaussian([[2.0, 0.7], [0.7, 1.2]], 2)
    np.testing.assert_allclose(from_convention(kernel.array, 2, "blindsr").array, kernel.array, rtol=1e-15)
    assert np.array_equal(to_convention(kernel, "blindsr"), kernel.array)


def test_convolving_is_correlating_with_the_turned_kernel(rng):
    # The oracle for KAIR, itself checked against SciPy's signal module.
    image, array = rng.random((15, 14)), rng.random((5, 5))
    full = signal.convolve2d(image, array, mode="same", boundary="wrap")
    np.testing.assert_allclose(convolved(image, array, 1), full, atol=1e-12)


@pytest.mark.parametrize(
    ("key", "centre", "scale", "size", "convention"),
    [
        ("Kernel", 5.5, 2, 11, "kernelgan"),
        ("Kernel", 6.0, 2, 11, "generator"),
        ("Kernel", 5.7, 2, 11, "kernelgan"),  # noise on the taps moves it by some tenths
        ("Kernel", 6.2, 2, 11, "generator"),
        ("Kernel", 4.5, 2, 11, "fkp"),
        ("Kernel", 5.0, 2, 11, "mzsr"),
        ("Kernel", 16.5, 4, 31, "kernelgan"),
        ("Kernel", 9.0, 3, 17, "kernelgan"),
        ("ker", 6.0, 2, 11, "generator"),
        ("kernel", 10.0, 2, 21, "mzsr"),
        ("kernels", 12.0, 2, 25, "kair"),
        (None, 5.5, 2, 12, "blindsr"),
        (None, 5.0, 3, 11, "blindsr"),
        (None, 5.5, 2, 11, "kernelgan"),
        (None, 4.5, 2, 11, "kair"),
    ],
)
def test_the_convention_is_detected_by_key_and_centre_of_mass(key, centre, scale, size, convention):
    found, reason = detect(blob(size, scale, centre), scale, key)
    assert found == convention
    assert f"of {size}×{size}" in reason
    assert (repr(key) if key else "no key") in reason


def test_a_shift_is_reported():
    _, reason = detect(blob(21, 2, 10.0), 2, "kernel")
    assert "(-0.50, -0.50) HR pixels (y, x) off the centre of the LR pixel, which was kept" in reason
    _, quiet = detect(blob(11, 2, 5.5), 2, "Kernel")
    assert "off the centre" not in quiet


def test_a_centre_that_fits_no_convention_is_reported():
    found, reason = detect(blob(21, 2, 13.5), 2, "Kernel")
    assert found == "kernelgan"
    assert "fits no known convention" in reason


def test_an_unknown_convention_is_refused():
    with pytest.raises(KernelError, match=r"must be one of blindsr, kernelgan.* got 'matlab'"):
        from_convention(np.ones((3, 3)), 2, "matlab")
    with pytest.raises(KernelError, match="got 'matlab'"):
        to_convention(gaussian(1.0, 2), "matlab")


@pytest.mark.parametrize("array", [np.ones(5), np.ones((3, 5)), np.ones((0, 0))])
def test_an_array_that_is_not_square_is_refused(array):
    with pytest.raises(KernelError, match="square 2-D"):
        from_convention(array, 2, "kernelgan")


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("off", [0.2, 0.3, 0.38])
def test_an_array_that_is_a_little_off_its_centre_stays_in_our_convention(scale, off):
    kernel = gaussian(2.4, scale).array
    moved = np.clip(ndimage.shift(np.pad(kernel, 4), (off, off), order=3), 0, None)
    assert detect(moved, scale)[0] == "blindsr"
    assert np.abs(as_kernel(moved / moved.sum(), scale).centroid - off).max() < 0.05
