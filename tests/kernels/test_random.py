import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from blindsr.errors import ConfigError
from blindsr.kernels import Kernel, bicubic, compose, gaussian, normalised_cross_correlation, to_convention
from blindsr.kernels.analytic import rotated_covariance
from blindsr.kernels.random import LAWS, Law, draw_kernel, shake_path, training_kernel, training_kernel_size

DRAWN = [name for name in LAWS if name != "bicubic"]


def draw(text, scale=2, seed=0, phase="centred"):
    return draw_kernel(Law.parse(text), scale, np.random.default_rng(seed), phase=phase)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(DRAWN), st.sampled_from([2, 3, 4]), st.integers(0, 2**31))
def test_every_law_puts_the_centre_of_mass_where_the_phase_defines_it(law, scale, seed):
    centred, corner = (draw(law, scale, seed, phase) for phase in ("centred", "corner"))
    assert centred.centroid == pytest.approx([0, 0], abs=1e-7)
    assert corner.centroid == pytest.approx([-(scale - 1) / 2] * 2, abs=1e-7)
    assert centred.array.min() >= 0


@pytest.mark.parametrize("law", DRAWN)
def test_a_seed_repeats_itself_and_another_one_differs(law):
    assert draw(law, seed=3).digest == draw(law, seed=3).digest
    assert draw(law, seed=3).digest != draw(law, seed=4).digest


def test_div2krk_has_the_published_variances_size_and_noise():
    for seed in range(30):
        kernel = draw("div2krk", seed=seed)
        variances = np.array(kernel.provenance["variances"])
        assert to_convention(kernel, "kernelgan").shape == (11, 11)
        assert ((variances >= 0.6) & (variances <= 5)).all()
        # The law's Gaussian, without its noise and on a window that cuts nothing, is nearly the kernel.
        ideal = gaussian(rotated_covariance(*variances, kernel.provenance["angle"]), 2)
        assert normalised_cross_correlation(kernel, ideal) > 0.98


def test_the_noise_of_div2krk_is_uniform_and_within_a_quarter():
    # A narrow Gaussian is known up to its mean; ratios of neighbouring weights then show the factors.
    ratios = []
    for seed in range(40):
        kernel = draw("div2krk", seed=seed)
        weights = to_convention(kernel, "kernelgan")
        ideal = gaussian(rotated_covariance(*kernel.provenance["variances"], kernel.provenance["angle"]), 2, size=12)
        ratios.append(weights[3:9, 3:9] / ideal.array[3:9, 3:9])
    relative = np.stack([r / r.mean() for r in ratios])
    assert 0.09 < relative.std() < 0.2  # uniform in ±0.25 has 0.144
    assert 0.5 < relative.min() < 0.85
    assert 1.15 < relative.max() < 1.6


def test_div2krk_at_four_is_the_kernel_at_two_composed_with_itself():
    four, two = draw("div2krk", 4, seed=9), draw("div2krk", 2, seed=9)
    assert four.array == pytest.approx(compose(two, two).array, abs=1e-12)
    assert to_convention(four, "kernelgan").shape == (31, 31)


def test_the_public_generator_is_wider_with_the_scale():
    for scale in (2, 4):
        variances = np.array([draw("public-generator", scale, seed).provenance["variances"] for seed in range(40)])
        assert variances.min() >= 0.175 * scale
        assert variances.max() <= 2.5 * scale
        assert variances.max() - variances.min() > 1.5 * scale


@pytest.mark.parametrize("phase", ["centred", "corner"])
def test_a_gaussian_with_numbers_has_their_moments(phase):
    kernel = draw("gaussian:1.8,0.9,30", 2, phase=phase)
    assert kernel.covariance == pytest.approx(rotated_covariance(1.8**2, 0.9**2, 30), abs=0.01)
    assert kernel.sigmas == pytest.approx((1.8, 0.9), abs=0.005)
    assert kernel.angle == pytest.approx(30, abs=0.2)


def test_a_gaussian_with_numbers_equals_the_kernel_by_formula():
    assert normalised_cross_correlation(draw("gaussian:1.3"), gaussian(1.69, 2)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("scale", [2, 3])
def test_a_defocus_disc_has_the_variance_of_disc_and_detector(scale):
    kernel = draw("defocus:9", scale)
    detector = {2: 0.5, 3: 2 / 3}[scale]  # taps ¼ ½ ¼, and ⅓ ⅓ ⅓
    assert kernel.covariance == pytest.approx(np.eye(2) * (4.5**2 / 4 + 1 / 12 + detector), rel=0.02)


def test_camera_shake_is_no_gaussian():
    kernels = [draw("motion", seed=seed) for seed in range(12)]
    likeness = [normalised_cross_correlation(k, gaussian(k.covariance, 2)) for k in kernels]
    assert np.median(likeness) < 0.9


def test_a_longer_shake_is_wider():
    assert draw("motion:24", seed=1).sigmas[0] > 1.5 * draw("motion:12", seed=1).sigmas[0]


def test_bicubic_is_imresizes_and_only_centred():
    assert draw("bicubic", 3).array == pytest.approx(bicubic(3).array)
    with pytest.raises(ConfigError, match="centred by definition"):
        draw("bicubic", 2, phase="corner")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gauss", r"the law \(--law, `Law`\) must be one of div2krk, .*did you mean 'gaussian'"),
        ("gaussian:1,2", "gaussian:SIGMA or gaussian:SX,SY,ANGLE, got gaussian:1,2"),
        ("div2krk:3", "must be div2krk, without numbers, got div2krk:3"),
        ("gaussian:wide", "must have numbers as in gaussian:1.8,0.9,30"),
        ("defocus:-2", "positive lengths, got defocus:-2"),
        ("gaussian:nan", "must have finite numbers"),
    ],
)
def test_an_invalid_law_is_refused_with_the_valid_forms(text, message):
    with pytest.raises(ConfigError, match=message):
        Law.parse(text)


def test_a_law_is_written_as_it_is_read():
    assert [str(Law.parse(text)) for text in ("motion", "gaussian:1.8,0.9,30")] == ["motion", "gaussian:1.8,0.9,30"]


@pytest.mark.parametrize(("scale", "phase", "message"), [(5, "centred", "scale 2, 3 or 4"), (2, "left", "phase must")])
def test_an_unknown_scale_or_phase_is_refused(scale, phase, message):
    with pytest.raises(ConfigError, match=message):
        draw("gaussian", scale, phase=phase)


def test_a_shaken_path_has_its_length_and_its_mean_at_the_origin():
    path = shake_path(12.0, np.random.default_rng(0))
    assert np.linalg.norm(np.diff(path, axis=0), axis=1).sum() == pytest.approx(12)
    assert path.mean(0) == pytest.approx([0, 0], abs=1e-12)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_training_kernels_have_one_size_and_sum_to_one(scale):
    rng = np.random.default_rng(scale)
    for _ in range(40):
        kernel = training_kernel(rng, scale)
        assert kernel.shape == (training_kernel_size(scale),) * 2
        assert (len(kernel) - scale) % 2 == 0
        assert kernel.sum() == pytest.approx(1.0, abs=1e-9)


def test_training_kernels_are_centred_but_for_a_tenth_of_them():
    """The law: 15 % of Gaussians, discs and shakes, which are 57 %, are off centre by up to half an LR pixel."""
    rng = np.random.default_rng(0)
    centroids = np.array([np.abs(Kernel(training_kernel(rng, 2), 2).centroid).max() / 2 for _ in range(300)])
    assert centroids.max() < 0.55
    assert 0.04 < (centroids > 0.05).mean() < 0.13


def test_training_kernels_are_not_all_gaussians():
    """Excess kurtosis of the marginal: 0 for Gaussians, −1.2 for a box; the families must be distinguishable."""
    rng = np.random.default_rng(0)
    x = np.arange(training_kernel_size(2)) - (training_kernel_size(2) - 1) / 2
    excess = []
    for _ in range(80):
        marginal = np.clip(training_kernel(rng, 2), 0, None).sum(0)
        marginal /= marginal.sum()
        centred = x - marginal @ x
        excess.append(marginal @ centred**4 / (marginal @ centred**2) ** 2 - 3)
    assert np.min(excess) < -0.5
    assert np.mean(np.abs(excess) < 0.3) > 0.3


# Trained weights depend on these draws: sums of the absolute moments of forty kernels, and where the generator stands
# afterwards.
TRAINING_DRAWS = {
    2: ([1.21842434, 1.26012465, 50.33292787, 5.07308619, 57.79502863], 0.28052062854462967),
    3: ([0.55950241, 2.90270084, 262.57867794, 88.1066403, 280.53605175], 0.6488113785584667),
    4: ([6.0847569, 7.5196434, 527.77124146, 108.77933988, 468.70081612], 0.7985164129759934),
}


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_training_law_never_changes(scale):
    rng = np.random.default_rng(100 + scale)
    kernels = [Kernel(training_kernel(rng, scale), scale) for _ in range(40)]
    moments = [[*kernel.centroid, *kernel.covariance.ravel()[[0, 1, 3]]] for kernel in kernels]
    expected, last = TRAINING_DRAWS[scale]
    np.testing.assert_allclose(np.abs(moments).sum(0), expected, rtol=1e-6, atol=1e-8)
    assert rng.random() == last
