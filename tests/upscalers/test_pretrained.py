"""The pretrained upscaler: one pass of the network, and its adaptation to one image."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from skimage import data

from blindsr.errors import ConfigError, DivergenceError, ImageError
from blindsr.events import StageDone, StageStarted, StepDone
from blindsr.kernels import bicubic, gaussian
from blindsr.ops import degrade, dihedral, dihedral_inverse, imresize
from blindsr.ops.color import from_planes, to_planes
from blindsr.ops.wiener import wiener
from blindsr.ops.windows import TensorSource
from blindsr.upscalers.base import Degradation
from blindsr.upscalers.pretrained import weights
from blindsr.upscalers.pretrained.conditioning import CLEAN, conditioning_of, embed
from blindsr.upscalers.pretrained.config import PretrainedConfig
from blindsr.upscalers.pretrained.network import ConditionedNetwork, FrozenNetwork, NetworkConfig, linear_base
from blindsr.upscalers.pretrained.upscaler import PretrainedUpscaler, back_project, clip_keeping_mean
from blindsr.upscalers.pretrained.weights import BUNDLED, load_network, shared_network
from tests.images import noise, photograph, psnr, upscale

pytestmark = pytest.mark.usefixtures("small_network")

KERNEL = gaussian([[2.0, 0.5], [0.5, 1.2]], 2)
PASS = PretrainedConfig(steps=0, ensemble=1, precision="fp32")
FEW = replace(PASS, steps=3, batch=2, crop=8, views=(0, 3), validation_side=16, learning_rate=2e-5, report_every=2)


@pytest.fixture
def after_few_steps():
    """The result of the photograph with `FEW`."""
    return upscale(photograph(), KERNEL, FEW).image


@pytest.mark.parametrize("config", [PASS, FEW])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_the_result_is_scale_times_as_large_and_in_range(config, scale):
    lr = photograph()
    before = lr.clone()
    result = upscale(lr, gaussian(1.0, scale), config)
    assert result.image.shape == (1, 3, 46 * scale, 38 * scale)
    assert result.image.dtype == torch.float32
    assert 0 <= result.image.min() <= result.image.max() <= 1
    assert result.steps == config.steps
    assert torch.equal(before, lr)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.usefixtures("trained_network")
def test_without_a_step_it_beats_bicubic_interpolation(scale):
    hr = photograph(40 * scale, 44 * scale)
    kernel = gaussian(0.5 * scale, scale)
    lr = degrade(hr, kernel.tensor(), scale)
    gain = psnr(upscale(lr, kernel, PASS).image, hr) - psnr(imresize(lr, float(scale)), hr)
    assert gain > 0.5


@pytest.mark.usefixtures("trained_network")
def test_a_gray_image_is_the_luma_of_a_gray_colour_image():
    grey = photograph().mean(1, keepdim=True)
    single = upscale(grey, KERNEL, PASS).image
    triple = upscale(grey.repeat(1, 3, 1, 1), KERNEL, PASS).image
    # Whether an image has colour is an input of the network; its result hardly depends on it.
    assert psnr(triple, single.expand_as(triple)) > 45


@pytest.mark.parametrize("config", [PASS, FEW])
def test_n_bands_are_taken_band_by_band(config):
    bands = torch.cat([photograph(), photograph().flip(-1)[:, :2]], 1)
    assert upscale(bands, KERNEL, config).image.shape == (1, 5, 92, 76)
    if config.steps == 0:
        alone = upscale(bands[:, 3:4], KERNEL, config).image
        assert torch.allclose(upscale(bands, KERNEL, config).image[:, 3:4], alone, atol=1e-5)


@pytest.mark.parametrize("config", [PASS, FEW])
def test_three_bands_that_are_no_colours_are_taken_band_by_band(config):
    image = torch.cat([photograph()[:, :1], photograph().flip(-1)[:, :1], torch.zeros(1, 1, 46, 38)], 1)
    degradation = Degradation(kernel=KERNEL, has_colors=False)
    model = PretrainedUpscaler(config).fit(TensorSource(image), degradation)
    result = model.predict(image)
    assert float(result[:, 2].max()) < 1e-3  # nothing of the others
    if config.steps == 0:
        assert torch.allclose(result[:, :1], upscale(image[:, :1], KERNEL, config).image, atol=1e-5)


def test_planes_of_a_colour_image_go_back_to_it():
    image = photograph()
    assert torch.allclose(from_planes(to_planes(image)), image, atol=1e-6)


def test_tiles_meet_without_a_seam():
    lr = photograph(70, 83)
    whole = upscale(lr, KERNEL, PASS).image
    tiled = upscale(lr, KERNEL, replace(PASS, max_tile=32)).image
    assert torch.allclose(whole, tiled, atol=1e-5)


@pytest.mark.parametrize("view", ["flip", "turn"])
@pytest.mark.usefixtures("trained_network")
def test_the_network_treats_a_turned_image_with_its_turned_kernel_nearly_alike(view):
    """Trained on all eight views: the answers differ by far less than what the network adds."""
    lr = photograph()

    def turned(image):
        return image.flip(-1) if view == "flip" else image.rot90(1, (-2, -1))

    other = type(KERNEL)(turned(KERNEL.tensor().double()).numpy(), 2)
    sr = upscale(lr, KERNEL, PASS).image
    assert psnr(turned(sr), upscale(turned(lr), other, PASS).image) > 38


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(after_few_steps):
    again, other = (upscale(photograph(), KERNEL, replace(FEW, seed=seed)).image for seed in (0, 1))
    assert torch.equal(after_few_steps, again)
    assert not torch.equal(after_few_steps, other)


@pytest.mark.parametrize(
    "change",
    [
        {"batch": 3},
        {"crop": 16},
        {"learning_rate": 2e-4},
        {"views": (0,)},
        {"steps": 5},
    ],
)
def test_every_setting_changes_the_result(change, after_few_steps):
    assert not torch.equal(after_few_steps, upscale(photograph(), KERNEL, replace(FEW, **change)).image)


@pytest.mark.parametrize("degradation", [{"noise_sigma": 0.02}, {"kernel_error": 0.04}])
def test_noise_and_an_uncertain_kernel_change_the_result(degradation):
    lr = photograph()
    assert not torch.equal(upscale(lr, KERNEL, PASS).image, upscale(lr, KERNEL, PASS, **degradation).image)


@pytest.mark.usefixtures("trained_network")
def test_back_projection_brings_the_result_to_the_input():
    lr = degrade(photograph(92, 76), KERNEL.tensor(), 2)
    without, with_it = (
        psnr(degrade(upscale(lr, KERNEL, replace(PASS, back_projections=n)).image, KERNEL.tensor(), 2), lr)
        for n in (0, 1)
    )
    assert with_it > without


@pytest.mark.usefixtures("trained_network")
def test_known_noise_is_suppressed():
    lr = noise(48, 40, 0.02)
    smoothed = upscale(lr, KERNEL, PASS, noise_sigma=0.02).image
    assert smoothed.std() < 0.5 * lr.std()
    assert upscale(lr, KERNEL, PASS).image.std() > 2 * smoothed.std()


def test_events_tell_the_steps_and_a_listener_changes_nothing(after_few_steps):
    heard = []
    result = upscale(photograph(), KERNEL, FEW, listener=heard.append)
    assert isinstance(heard[0], StageStarted)
    assert heard[0].max_steps == 3
    assert [e.step for e in heard if isinstance(e, StepDone)] == [1, 2, 3]
    assert isinstance(heard[-1], StageDone)
    assert len(result.history["loss"]) == len(result.history["validation_loss"]) == 2
    assert torch.equal(result.image, after_few_steps)


def test_a_diverging_adaptation_says_so():
    with pytest.raises(DivergenceError, match="learning_rate"):
        upscale(photograph(), KERNEL, replace(FEW, learning_rate=1e30))


@pytest.mark.usefixtures("trained_network")
def test_steps_that_do_not_help_are_not_kept():
    lr = photograph()
    spoilt = upscale(lr, KERNEL, replace(FEW, learning_rate=0.03))
    assert "pretrained weights are used" in spoilt.warnings[0]
    assert torch.equal(spoilt.image, upscale(lr, KERNEL, PASS).image)


def test_a_small_image_is_refused_and_an_unknown_scale_too():
    with pytest.raises(ImageError, match="16×16"):
        upscale(photograph(12, 40), KERNEL, PASS)
    with pytest.raises(ConfigError, match="got ×5"):
        upscale(photograph(60, 60), bicubic(5), PASS)


@pytest.mark.parametrize(
    "fault",
    [
        {"steps": -1}, {"learning_rate": 0.0}, {"batch": 0}, {"crop": 4}, {"views": ()}, {"views": (8,)},
        {"back_projections": -1}, {"validation_side": 4}, {"max_tile": 8}, {"report_every": 0},
        {"precision": "fp16"}, {"ensemble": 3}, {"ensemble_pixels": -1},
    ],
)  # fmt: skip
def test_settings_out_of_bounds_are_refused(fault):
    with pytest.raises(ConfigError, match=f"pretrained.{next(iter(fault))}"):
        PretrainedConfig(**fault)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "gain"), [(2, -0.05), (4, -0.05)])
@pytest.mark.usefixtures("trained_network")
def test_a_few_steps_lose_next_to_nothing(scale, gain):
    hr = photograph(46 * scale, 50 * scale) if scale == 4 else photograph(120, 136)
    kernel = gaussian(0.55 * scale, scale)
    lr = torch.round(degrade(hr, kernel.tensor(), scale) * 255) / 255
    start, adapted = (upscale(lr, kernel, replace(PASS, steps=n, batch=4, validation_side=32)) for n in (0, 8))
    assert not torch.equal(start.image, adapted.image)
    assert psnr(adapted.image, hr) - psnr(start.image, hr) > gain


@pytest.mark.parametrize(("ensemble", "views"), [(2, (2,)), (4, (2, 4, 6)), (8, (1, 3, 5, 7))])
@pytest.mark.usefixtures("trained_network")
def test_an_ensemble_turns_with_the_image(ensemble, views):
    """Averaged over a group of views that leave the kernel alone, the answer to a turned image is the turned answer."""
    lr, kernel = photograph(26, 22), bicubic(2)
    config = replace(PASS, ensemble=ensemble)
    straight = upscale(lr, kernel, config).image
    single = upscale(lr, kernel, replace(PASS, ensemble=1)).image
    assert not torch.equal(straight, single)
    assert float((straight - single).abs().mean()) < 2 / 255
    for view in views:
        turned = upscale(dihedral(lr, view), kernel, config).image
        assert torch.allclose(dihedral_inverse(turned, view), straight, atol=2e-4)
        alone = upscale(dihedral(lr, view), kernel, replace(PASS, ensemble=1)).image
        assert not torch.allclose(dihedral_inverse(alone, view), single, atol=2e-4)


@pytest.mark.usefixtures("trained_network")
def test_every_kernel_has_all_views():
    """The kernel turns with the image: the mean of all views of an oblique kernel is nearer to the truth."""
    hr = photograph(120, 136)
    kernel = gaussian([[2.0, 0.9], [0.9, 1.2]], 2)
    lr = torch.round(degrade(hr, kernel.tensor(), 2) * 255) / 255
    one, eight = (psnr(upscale(lr, kernel, replace(PASS, ensemble=n)).image, hr) for n in (1, 8))
    assert eight > one + 0.01


def test_a_large_image_has_one_view():
    lr, kernel = photograph(), bicubic(2)
    one, four = (upscale(lr, kernel, replace(PASS, ensemble=n)).image for n in (1, 4))
    pixels = lr.shape[2] * lr.shape[3] * 4
    for limit, expected in ((pixels - 1, one), (pixels, four), (None, four)):
        config = replace(PASS, ensemble=4, ensemble_pixels=limit)
        assert torch.equal(upscale(lr, kernel, config).image, expected)


def test_luma_chroma_and_bands_have_their_own_noise():
    degradation = Degradation(kernel=KERNEL, noise_sigma=(0.01, 0.03, 0.04), kernel_error=0.2)
    colour = conditioning_of(degradation, 0, colour=True)
    assert (colour.noise_sigma, colour.kernel_error) == (0.01, 0.2)
    assert colour.chroma_sigma == pytest.approx((0.03**2 / 2 + 0.04**2 / 2) ** 0.5)
    bands = [conditioning_of(degradation, band, colour=False) for band in range(4)]
    assert [band.noise_sigma for band in bands] == [0.01, 0.03, 0.04, 0.04]
    assert all(band.chroma_sigma == 0 for band in bands)
    # One number is the noise of every plane; what compression left is noise of both.
    same = conditioning_of(replace(degradation, noise_sigma=(0.01,)), 0, colour=True)
    assert same.chroma_sigma == pytest.approx(0.01)
    compressed = conditioning_of(replace(degradation, compression_sigma=0.05), 0, colour=True)
    assert compressed.noise_sigma == 0.05 < compressed.chroma_sigma


@pytest.mark.parametrize(
    ("luma", "chroma", "clean"), [(0, 0, True), (CLEAN, CLEAN, True), (0.01, 0, False), (0, 0.01, False)]
)
def test_noise_of_any_plane_is_noise(luma, chroma, clean):
    degradation = Degradation(kernel=KERNEL, noise_sigma=(luma, chroma, chroma))
    assert conditioning_of(degradation, 0, colour=True).is_clean is clean


def test_a_smooth_image_is_corrected_less_than_a_full_step_of_back_projection_would():
    """Rounding is all that a good result of a smooth image leaves, and the Wiener filter amplifies it fivefold."""
    y, x = torch.meshgrid(torch.linspace(0, 3, 160), torch.linspace(0, 2, 160), indexing="ij")
    hr = (0.5 + 0.3 * torch.sin(y * 2) * torch.cos(x * 3))[None, None].expand(1, 3, -1, -1)
    kernel = gaussian(1.4, 2)
    lr = torch.round(degrade(hr, kernel.tensor(), 2) * 255) / 255
    planes, truth = (to_planes(image).transpose(0, 1) for image in (lr, hr))
    step = back_project(truth, planes, kernel) - truth
    difference = planes - degrade(truth, kernel.tensor(), 2)
    full = linear_base(wiener(difference, kernel.tensor(), 2))
    assert float(step.std()) < 0.4 * float(full.std())


def test_an_ensemble_is_the_same_in_tiles():
    lr = photograph(60, 52)
    config = replace(PASS, ensemble=4)
    whole = upscale(lr, bicubic(2), config).image
    tiled = upscale(lr, bicubic(2), replace(config, max_tile=32)).image
    assert torch.allclose(whole, tiled, atol=1e-4)


def test_nothing_learned_is_the_wiener_filter_and_learns_from_the_image(monkeypatch):
    """On a photograph with sharp edges: the kernel alone beats interpolation, and the image's own pairs beat that."""
    # A network of a thirtieth of the work: that the steps learn does not depend on its size.
    small = partial(ConditionedNetwork, NetworkConfig(channels=32, blocks=1))
    monkeypatch.setattr(weights, "ConditionedNetwork", small)
    pixels = torch.from_numpy(data.astronaut()[:240, 100:340].copy()).permute(2, 0, 1)[None].float() / 255
    hr = imresize(pixels, 0.5).clamp(0, 1)
    kernel = gaussian(1.4, 2)
    lr = torch.round(degrade(hr, kernel.tensor(), 2) * 255) / 255
    none = PretrainedConfig(random_weights=True, steps=0, back_projections=0, precision="fp32")
    planes = to_planes(lr).transpose(0, 1)
    filtered = linear_base(wiener(planes, kernel.tensor(planes), 2))
    linear = clip_keeping_mean(from_planes(filtered.transpose(0, 1)), lr)
    assert torch.allclose(upscale(lr, kernel, none).image, linear, atol=1e-6)
    some = replace(none, steps=100, learning_rate=2e-3, crop=16, validation_side=32, ensemble=1, back_projections=1)
    assert psnr(upscale(lr, kernel, some).image, hr) > psnr(linear, hr) + 0.05
    assert psnr(linear, hr) > psnr(imresize(lr, 2.0), hr) + 1
    few = replace(some, steps=2, batch=2, views=(0,))
    first, second, other = (upscale(photograph(), kernel, replace(few, seed=seed)) for seed in (0, 0, 1))
    assert torch.equal(first.image, second.image)
    assert first.history == second.history != other.history


def test_weights_and_nothing_learned_exclude_each_other(tmp_path):
    with pytest.raises(ConfigError, match="random weights"):
        PretrainedConfig(random_weights=True, weights=tmp_path / "a.safetensors")


@pytest.mark.usefixtures("trained_network")
def test_a_bundled_network_is_loaded_once_and_no_adaptation_changes_it():
    kept, as_stored = shared_network(), load_network()
    assert upscale(photograph(), KERNEL, replace(FEW, learning_rate=1e-4)).model.steps == FEW.steps
    assert shared_network(Path("pretrained")) is kept is not as_stored
    for (name, weight), stored in zip(kept.named_parameters(), as_stored.parameters(), strict=True):
        assert torch.equal(weight, stored), name


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("scale", [2, 3])
def test_a_frozen_network_is_the_network(bands, scale):
    """With the modulation in the weights."""
    network, generator = load_network(), torch.Generator().manual_seed(0)
    lr = torch.rand(1, bands, 20, 24, generator=generator)
    linear = torch.rand(1, bands + 1, 20 * scale, 24 * scale, generator=generator)
    embedding = embed(gaussian(1.0, scale).tensor(), scale, 0.01, 0.02, 0.05, bands == 3)
    with torch.no_grad():
        expected = network(lr, linear, embedding, scale)
    assert expected.std() > 1e-3
    assert torch.allclose(FrozenNetwork(network, embedding, scale, torch.float32)(lr, linear), expected, atol=1e-5)


@pytest.mark.parametrize(("size", "ensemble"), [((71, 43), 4), ((43, 72), 1), ((42, 71), 1)])
def test_odd_sides_are_the_same_in_tiles_of_either_kind(size, ensemble):
    """The trunk works on 2×2 pixels, which must be the same ones in every tile and view."""
    lr = 0.25 + 0.5 * photograph(*size)  # so that nothing is clipped
    config = replace(PASS, ensemble=ensemble)
    whole = upscale(lr, KERNEL, config).image
    assert torch.allclose(whole, upscale(lr, KERNEL, replace(config, max_tile=32)).image, atol=1e-5)
    assert 255 * float((whole - upscale(lr, KERNEL, config, tile=32).image).abs().max()) < 0.25


def test_clipping_keeps_the_mean_whatever_lies_far_away():
    """A part that is hard to correct decides nothing for the others, which another tile may contain without it."""
    generator = torch.Generator().manual_seed(0)
    lr, board = torch.full((1, 1, 64, 200), 0.3), (torch.arange(128)[:, None] + torch.arange(400)) % 2 * 2.0 - 1
    sr = 0.3 + 0.4 * board.expand(1, 1, -1, -1)
    sr[..., 120:] = 0.3
    lr[..., 150:] += 0.3 * torch.randn(lr[..., 150:].shape, generator=generator)
    sr[..., 300:] += 3 * torch.randn(sr[..., 300:].shape, generator=generator)
    whole, part = clip_keeping_mean(sr, lr.clamp(0, 1)), clip_keeping_mean(sr[..., :200], lr[..., :100])
    assert 255 * float((whole[..., :130] - part[..., :130]).abs().max()) < 0.01
    inner = torch.nn.functional.avg_pool2d(part, 2)[..., 12:-12, 12:48]
    assert float(part[..., :100].min()) == 0
    assert 255 * abs(float(inner.mean()) - 0.3) < 0.5


def test_the_receptive_field_is_within_the_halo():
    network = load_network()
    side = 2 * network.halo + 8
    lr = torch.full((1, 1, side, side), 0.5, requires_grad=True)
    linear = torch.rand(1, 2, 2 * side, 2 * side, generator=torch.Generator().manual_seed(0))
    network(lr, linear, embed(KERNEL.tensor(), 2), 2)[0, 0, side + 1, side + 1].backward()
    rows = lr.grad[0, 0].abs().amax(1).nonzero().flatten() - (side + 1) // 2
    assert -network.halo <= rows.min() < -8
    assert 8 < rows.max() <= network.halo


@pytest.mark.usefixtures("trained_network")
def test_noisy_chroma_is_denoised():
    hr = photograph(128, 144, name="astronaut", top=40, left=150)
    kernel = gaussian(1.2, 2)
    clean = degrade(hr, kernel.tensor(), 2)
    lr = clean + 8 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    sigmas = tuple(8 / 255 * share for share in (0.668, 1.10, 0.92))  # of Y, B − Y and R − Y

    def gain(noise_sigma):
        degradation = Degradation(kernel=kernel, noise_sigma=noise_sigma)
        result = PretrainedUpscaler(PASS).fit(TensorSource(lr), degradation).predict(lr)
        return psnr(result, hr) - psnr(imresize(lr, 2.0), hr)

    assert gain(sigmas) > 1.5
    assert gain(sigmas) > gain((sigmas[0], 0.0, 0.0)) + 1


@pytest.mark.usefixtures("trained_network")
def test_a_wrong_kernel_with_its_error_is_less_harmful():
    """The larger the conditioning error, the smaller the effect of the kernel."""
    hr = photograph(128, 144)
    lr = torch.round(degrade(hr, bicubic(2).tensor(), 2) * 255) / 255
    wide = gaussian(1.5, 2)
    exact, uncertain, unsure = (psnr(upscale(lr, wide, PASS, kernel_error=e).image, hr) for e in (0.0, 0.1, 0.3))
    assert unsure > uncertain > exact
    assert unsure > psnr(imresize(lr, 2.0), hr) - 1.2


@pytest.mark.parametrize("name", BUNDLED)
@pytest.mark.usefixtures("trained_network")
def test_both_bundled_networks_beat_interpolation(name):
    hr = photograph(96, 112)
    lr = torch.round(degrade(hr, bicubic(2).tensor(), 2) * 255) / 255
    gain = psnr(upscale(lr, bicubic(2), replace(PASS, weights=Path(name))).image, hr) - psnr(imresize(lr, 2.0), hr)
    assert gain > 0.3


@pytest.mark.parametrize(
    ("measured", "reason"),
    [
        ({"compression_sigma": 0.02}, "lossy compression was measured"),
        ({"noise_sigma": (0.03,)}, "noise was measured"),
        ({"kernel_error": 0.02}, "the blur is an estimate"),
    ],
)
def test_no_steps_are_made_where_they_would_learn_an_error(measured, reason):
    lr = photograph()
    degradation = Degradation(kernel=KERNEL, **measured)
    heard = []
    model = PretrainedUpscaler(FEW).fit(TensorSource(lr), degradation, listener=heard.append)
    assert model.steps == 0
    assert heard[-1].reason == f"no adaptation steps: {reason}"
    assert torch.equal(model.predict(lr), PretrainedUpscaler(PASS).fit(TensorSource(lr), degradation).predict(lr))
    assert PretrainedUpscaler(replace(FEW, random_weights=True)).fit(TensorSource(lr), degradation).steps == 3


@pytest.mark.parametrize(("kernel", "error"), [(KERNEL, 0.0), (bicubic(2), 0.02)])
def test_steps_are_made_where_the_kernel_is_known_or_nearly_bicubic(kernel, error):
    degradation = Degradation(kernel=kernel, kernel_error=error, noise_sigma=(0.006,))
    assert PretrainedUpscaler(FEW).fit(TensorSource(photograph()), degradation).steps == FEW.steps
