"""The share of a result that is used: all of one that is right, and little of one that is not."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from blindsr import SuperResolver, estimate_and_upscale, upscale, upscale_file
from blindsr.image_io import FileOptions
from blindsr.kernels import Kernel, KernelStack, bicubic, gaussian
from blindsr.ops import degrade, imresize
from blindsr.ops.color import srgb_to_linear
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind, strength
from blindsr.pipelines.strength import StrengthNetwork, measure_strength, strength_of, strength_warning
from blindsr.settings import Settings, preset
from tests.images import noise, photograph, psnr, quick_settings

FAST = preset("fast")
WORDS = "more detail than is probably there"


def scene(name="astronaut", scale=2, kernel=None, top=0, left=100):
    """HR image and rounded LR image."""
    hr = photograph(300 // scale * scale, 276 // scale * scale, name=name, top=top, left=left)
    kernel = gaussian(0.3 * scale**2, scale) if kernel is None else kernel
    return hr, (255 * degrade(hr, kernel.tensor(hr), scale)).round() / 255


def run(lr, kernel, settings=FAST, **changed):
    settings = replace(settings, scale=float(kernel.scale), **changed)
    return blind.run(TensorSource(lr), settings, kernel=kernel)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_result_with_the_true_kernel_is_used(scale):
    _, lr = scene(scale=scale)
    result = run(lr, gaussian(0.3 * scale**2, scale))
    assert result.strengths == (1.0,)
    assert not any(WORDS in text for text in result.warnings)
    assert torch.equal(result.image, run(lr, gaussian(0.3 * scale**2, scale), strength=1.0).image)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_of_a_result_with_a_kernel_that_is_too_wide_little_is_used(scale):
    hr, lr = scene(scale=scale)
    wide = gaussian(1.7 * scale**2, scale)
    result, whole = run(lr, wide), run(lr, wide, strength=1.0)
    assert result.strengths[0] < 0.4
    assert sum(WORDS in text for text in result.warnings) == 1
    assert not any(WORDS in text for text in whole.warnings)
    interpolated = psnr(imresize(lr, float(scale)).clamp(0, 1), hr, 8)
    assert psnr(whole.image, hr, 8) < interpolated - 3
    assert psnr(result.image, hr, 8) > interpolated - 0.3
    # What is used is what the figure says: the rest is bicubic interpolation.
    mixed = torch.lerp(imresize(lr, float(scale)).clamp(0, 1), whole.image, result.strengths[0])
    torch.testing.assert_close(result.image, mixed, rtol=0, atol=1e-5)


def test_of_a_result_that_contradicts_the_image_nothing_is_used():
    y, x = torch.meshgrid(*2 * [(torch.arange(1600) - 799.5) / 4], indexing="ij")
    radius = torch.hypot(y + 37, x - 21)
    wave = torch.sin(torch.pi * radius / 12)
    hr = 0.15 + 0.65 * torch.nn.functional.avg_pool2d((wave > 0).float()[None, None], 4)
    lr = (255 * degrade(hr, gaussian(1.44, 2).tensor(hr), 2)).round() / 255
    interpolated = imresize(lr, 2).clamp(0, 1)
    result = blind.run(TensorSource(lr), FAST)  # the repeated edges are taken for those of a shake
    assert result.strengths == (0.0,)
    assert sum("nothing of it is used" in text for text in result.warnings) == 1
    assert psnr(result.image, hr, 8) == pytest.approx(psnr(interpolated, hr, 8), abs=0.05)
    known = blind.run(TensorSource(lr), FAST, kernel=gaussian(1.44, 2))
    assert known.strengths == (1.0,)
    assert psnr(known.image, hr, 8) > psnr(interpolated, hr, 8) + 6


@pytest.mark.parametrize("side", [1, 40])
def test_a_flat_image_stays_flat_in_every_type(side):
    for value, dtype in ((0, np.uint16), (1234, np.uint16), (7, np.uint8), (-3, np.int16)):
        image = np.full((side, side + 2), value, dtype)
        assert (estimate_and_upscale(image, preset="fast") == value).all()
    colours = np.full((side + 1, side, 3), (10, 200, 77), np.uint16)
    assert (estimate_and_upscale(colours, preset="fast") == (10, 200, 77)).all()
    assert (
        abs(estimate_and_upscale(np.full((side, side), 0.02, np.float32), scale=3, preset="fast") - 0.02).max() < 1e-6
    )


def test_an_image_whose_detail_is_between_the_compared_parts_is_not_flat():
    image = np.full((400, 520), 128, np.uint8)
    image[156:164, 150:158] = (
        255  # four of nine parts of 96 px are compared, which begin at 0, 152 and 304; 0, 212 and 424
    )
    with_kernel = upscale(image, gaussian(2.0, 2), preset="fast")
    assert np.abs(with_kernel.astype(int) - upscale(image, "bicubic", upscaler="bicubic")).max() > 20


def test_the_share_does_not_depend_on_the_orientation():
    _, lr = scene()
    wide = gaussian(3.0, 2)
    shares = [run(view, wide).strengths[0] for view in (lr, lr.flip(2), lr.flip(3), lr.flip(2, 3))]
    assert shares == pytest.approx([shares[0]] * 4, abs=0.02)


def test_gray_and_linear_images_are_compared_as_they_are_seen():
    _, lr = scene()
    grey = lr.mean(1, keepdim=True)
    assert run(grey, gaussian(1.2, 2)).strengths == (1.0,)
    assert run(grey, gaussian(6.8, 2)).strengths[0] < 0.4
    settings = replace(FAST, scale=2.0)
    for kernel, is_used in ((gaussian(1.2, 2), True), (gaussian(6.8, 2), False)):
        fitted = blind.fit(TensorSource(srgb_to_linear(lr)), settings, kernel=kernel, linear_light=True)
        assert (fitted.strengths[0] > 0.9) == is_used


def test_bands_have_shares_of_their_own():
    hr, lr = scene()
    kernels = KernelStack([gaussian(1.2, 2), gaussian(6.8, 2), gaussian(1.2, 2)], ["red", "green", "blue"])
    result = run(lr, kernels)
    assert result.strengths[0] == result.strengths[2] == 1
    assert result.strengths[1] < 0.4
    (text,) = (text for text in result.warnings if WORDS in text)
    assert text.startswith("band green: ")
    whole = run(lr, kernels, strength=1.0).image
    assert torch.equal(result.image[:, ::2], whole[:, ::2])
    assert psnr(result.image[:, 1:2], hr[:, 1:2], 8) > psnr(whole[:, 1:2], hr[:, 1:2], 8) + 3


def test_who_asks_for_a_share_or_a_width_gets_it(monkeypatch):
    monkeypatch.setattr(strength, "strength_of", lambda *_: pytest.fail("nothing is to be compared"))
    _, lr = scene()
    for settings in (
        replace(FAST, strength=0.7),
        replace(FAST, kernel_width=2.0),
        replace(FAST, upscaler="bicubic"),
        quick_settings(upscaler="lanczos"),
    ):
        given = settings.strength
        assert run(lr, bicubic(2), settings).strengths == (1.0 if given == "auto" else given,)
    small = lr[..., :31, :]  # too small to tell
    assert run(small, bicubic(2)).strengths == (1.0,)


def test_the_published_methods_are_left_alone():
    assert not getattr(Settings(upscaler="zssr").create_upscaler(), "is_compared", False)
    assert Settings().create_upscaler().is_compared


def test_one_part_that_looks_right_is_enough(monkeypatch):
    class Known(torch.nn.Module):
        def forward(self, interpolated, result):
            return torch.where(result.mean((1, 2)) > interpolated.mean((1, 2)) + 5, 0.08, 1.0)

    monkeypatch.setattr(strength, "_network", Known)
    plain = torch.full((1, 3, 64, 64), 0.5)
    right, wrong = plain + 0.001, plain + 0.1
    assert strength_of([plain] * 3, [wrong] * 3, 2, "estimated") == pytest.approx(0.2)
    assert strength_of([plain] * 3, [wrong] * 3, 2, "given") == pytest.approx(0.8)  # it takes more to doubt it
    assert strength_of([plain] * 3, [wrong, right, wrong], 2, "estimated") == 1
    assert strength_of([plain], [plain], 2, "estimated") == 1  # nothing was added that could be wrong


def test_the_network_sees_neither_brightness_nor_place():
    torch.manual_seed(0)
    network = StrengthNetwork()
    base = 255 * photograph(96, 96).mean(1)
    result = base + 255 * noise(96, 96, 0.02, mean=0.0)[:, 0]
    network.requires_grad_(requires_grad=False)
    first = network(base, result)
    torch.testing.assert_close(first, network(base - 20, result - 20), rtol=0, atol=1e-4)
    assert 0 < float(first) < StrengthNetwork.LARGEST
    assert network(base[:, :34, :46], result[:, :34, :46]).shape == (1,)


def test_what_is_said_of_a_share():
    assert strength_warning(1.0, 2) == strength_warning(0.96, 2) == ()
    (text,) = strength_warning(0.42, 2)
    assert "42 % of it is used, and interpolation for the rest" in text
    assert "--strength 1" in text
    (text,) = strength_warning(0.0, 1)
    assert "nothing of it is used, and the photograph as it is for the rest" in text


def test_the_record_and_python_have_the_share(tmp_path):
    _, lr = scene()
    image = (255 * lr).round()[0].permute(1, 2, 0).byte().numpy()
    resolver = SuperResolver(scale=2, preset="fast")
    assert not any(WORDS in text for text in resolver(image, kernel="gaussian:1.1").warnings)
    text = next(text for text in resolver(image, kernel="gaussian:2.6").warnings if WORDS in text)
    assert "strength=1" in text
    whole = upscale(image, "gaussian:2.6", 2, preset="fast", strength=1)
    assert not np.array_equal(whole, upscale(image, "gaussian:2.6", 2, preset="fast"))


def test_windows_of_odd_sides_are_compared():
    _, lr = scene()
    model = blind.fit(TensorSource(lr), replace(FAST, scale=2.0), kernel=gaussian(1.2, 2)).model
    small, large = lr[..., :51, :67], torch.cat([lr] * 13, -1)
    assert 4 * small[0, 0].numel() < strength.SMALL < 4 * large[0, 0].numel()
    for image in (small, large):
        assert measure_strength(model, TensorSource(image))[0] == 1


@pytest.mark.parametrize("scale", [2, 3])
def test_regular_patterns_are_no_ripples(scale):
    """The network takes them for those of a wrong kernel, so that they decide nothing."""
    y, x = np.indices((360, 360))
    print_screen = (x % 6 - 3) ** 2 + (y % 6 - 3) ** 2 < 5
    for pattern in ((x // 4 + y // 4) % 2, (x // 3) % 2, (x + y) // 5 % 2, print_screen):
        hr = torch.from_numpy(0.1 + 0.8 * pattern).float().expand(1, 3, -1, -1)
        kernel = gaussian(2.0, scale)
        lr = (255 * degrade(hr, kernel.tensor(hr), scale)).round() / 255
        assert run(lr, kernel).strengths == (1.0,)


def test_an_estimated_kernel_is_one_wherever_it_comes_from():
    """Read from a file, or shared by a batch, it is doubted as in the run that estimated it."""
    _, lr = scene()
    wide = gaussian(3.4, 2)
    estimated = Kernel(wide.array, 2, {"made_by": "spectral"})
    assert run(lr, wide).strengths == (1.0,)
    assert run(lr, estimated).strengths[0] < 0.8


def test_an_empty_page_does_not_decide_for_the_others(tmp_path):
    _, lr = scene()
    photo = Image.fromarray((255 * lr).round()[0].permute(1, 2, 0).byte().numpy())
    empty = Image.new("RGB", photo.size)
    strengths = []
    for pages in ([photo, photo, photo], [photo, empty, photo]):
        pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
        options = {"files": FileOptions(page="all"), "kernel": gaussian(6.8, 2), "overwrite": True}
        result = upscale_file(tmp_path / "a.tif", FAST, output=tmp_path / "b.tif", **options)
        strengths.append(result.record["strength"])
    assert strengths[0] == strengths[1]
    assert strengths[0][0] < 0.5


def test_a_small_result_is_computed_once():
    _, lr = scene()
    model = blind.fit(TensorSource(lr), replace(FAST, scale=2.0, strength=1.0), kernel=gaussian(1.2, 2)).model
    calls = []

    def counted(window):
        calls.append(window.shape)
        return model.predict(window)

    _, remembering = measure_strength(replace(model, predict=counted), TensorSource(lr))
    first, second = remembering.predict(lr), remembering.predict(lr.clone())
    assert calls == [lr.shape]
    assert torch.equal(first, model.predict(lr))
    assert first.data_ptr() != second.data_ptr()  # what is done to one does not change the other
    other = lr.flip(3)
    assert torch.equal(remembering.predict(other), model.predict(other))


def test_a_sharpened_kernel_is_no_mistake():
    """A camera's kernel has negative weights, and its result less contrast at edges than the photograph."""
    size = 24
    narrow, wide = gaussian(1.2, 2, size=size), gaussian(4.0, 2, size=size)
    kernel = Kernel.normalised(1.6 * narrow.array - 0.6 * wide.array, 2)
    _, lr = scene(kernel=kernel)
    assert run(lr.clamp(0, 1), kernel).strengths[0] > 0.9
