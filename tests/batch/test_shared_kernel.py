"""One kernel from many images: nearer to the truth than single estimates, and robust to outliers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops
from skimage import data

from blindsr.batch import shared_kernel as shared_module
from blindsr.batch.plan import Manifest
from blindsr.batch.shared_kernel import shared_kernel_for
from blindsr.errors import ConfigError, ImageError
from blindsr.estimators.spectral import SpectralConfig
from blindsr.events import Notice, StepDone, ignore
from blindsr.image_io import FileOptions, open_image
from blindsr.kernels import Kernel, KernelEstimate, bicubic, gaussian
from blindsr.kernels.metrics import covariance_error
from blindsr.ops import degrade
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind
from blindsr.pipelines.image import ColorSource
from blindsr.pipelines.shared_kernel import ImageEstimate, SharedKernel, estimate_shared_kernel
from blindsr.settings import Settings

pytestmark = pytest.mark.usefixtures("small_network")

# Without the estimates of halves, which say how certain a single kernel is.
SPECTRAL = Settings(estimator="spectral", configs={"spectral": SpectralConfig(splits=0)})


def _lr(picture, kernel, seed):
    hr = torch.from_numpy(picture.copy()).double().permute(2, 0, 1)[None] / 255
    rng = torch.Generator().manual_seed(seed)
    lr = degrade(hr, kernel.tensor(hr), 2)
    return (lr + 0.005 * torch.randn(lr.shape, generator=rng, dtype=lr.dtype)).clamp(0, 1).float()


@pytest.fixture(scope="module")
def pictures():
    whole = (data.astronaut(), data.coffee(), data.chelsea(), data.rocket())
    return [picture[40:232, 120:312] for picture in whole] + [data.astronaut()[:192, 170:362]]


def _loaders(images):
    return [(f"{i}.png", lambda image=image: image) for i, image in enumerate(images)]


def test_the_joint_estimate_is_nearer_to_the_truth_than_single_ones(pictures):
    truth = gaussian([[2.6, 0.5], [0.5, 1.3]], 2)
    images = [_lr(picture, truth, i) for i, picture in enumerate(pictures)]
    shared = estimate_shared_kernel(_loaders(images), SPECTRAL)
    single = [
        covariance_error(blind.estimate_kernel(TensorSource(x), SPECTRAL, listener=ignore).kernel, truth)
        for x in images
    ]
    assert covariance_error(shared.kernel, truth) < 0.8 * np.mean(single)
    assert 0 < shared.error < shared.spread
    assert "shared kernel from 5 of 5 images" in str(shared)
    assert shared.spread_warnings() == shared.outlier_warnings() == shared.exclusion_warnings() == ()


def test_for_factors_of_two_passes_it_is_carried_over(pictures):
    truth = gaussian([[2.6, 0.5], [0.5, 1.3]], 2)
    loaders = _loaders([_lr(picture, truth, i) for i, picture in enumerate(pictures[:3])])
    shared = estimate_shared_kernel(loaders, Settings(scale=8))
    first = estimate_shared_kernel(loaders, Settings(scale=4))
    assert shared.kernel.scale == 8
    assert shared.spread == first.spread
    # Widths are said in pixels of the result.
    wider = np.sqrt(shared.estimates[0].covariance[0, 0] / first.estimates[0].covariance[0, 0])
    assert wider == pytest.approx(2, abs=0.05)
    assert shared.kernel.sigmas[0] / first.kernel.sigmas[0] == pytest.approx(wider, abs=0.05)


@pytest.fixture
def estimates(monkeypatch):
    """Estimates by the first value of an image, instead of measuring."""
    table = {}

    def estimate(image, settings, *, listener):
        kernel = table[round(float(image.window(slice(0, 1), slice(0, 1))), 3)]
        if kernel is None:
            raise ImageError("too small.")
        return KernelEstimate(kernel=kernel, method="spectral", kernel_error=kernel.provenance.get("kernel_error"))

    monkeypatch.setattr(blind, "estimate_kernel", estimate)

    def make(kernels):
        table.update({round(i / 100, 3): kernel for i, kernel in enumerate(kernels)})
        return _loaders([torch.full((1, 1, 4, 4), i / 100) for i in range(len(kernels))])

    return make


def _made(variance):
    return Kernel(gaussian(variance, 2).array, 2, {"made_by": "spectral"})


def test_gaussians_give_the_gaussian_of_their_mean_covariance(estimates):
    shared = estimate_shared_kernel(estimates([_made(v) for v in (1.0, 1.2, 1.4)]), SPECTRAL)
    assert np.allclose(shared.kernel.covariance, 1.2 * np.eye(2), atol=0.01)
    assert shared.kernel.provenance["made_by"] == "spectral"
    assert shared.kernel.provenance["shared_by"] == 3


@pytest.mark.parametrize(("errors", "mean"), [((0.03, 0.05), 0.04), ((0.03, None), None)])
def test_the_error_of_the_kernel_is_the_mean_of_the_estimates(estimates, errors, mean):
    kernels = [Kernel(_made(1.0).array, 2, {"made_by": "learned", "kernel_error": error}) for error in errors]
    shared = estimate_shared_kernel(estimates(kernels), Settings())
    assert shared.kernel.provenance.get("kernel_error") == mean


def test_an_outlier_is_reported_and_has_no_part_in_the_kernel(estimates):
    usual = [_made(v) for v in (1.0, 1.1, 1.2, 1.3, 1.4)]
    shared = estimate_shared_kernel(estimates([*usual, _made(6.0)]), SPECTRAL)
    assert [estimate.is_outlier for estimate in shared.estimates] == [False] * 5 + [True]
    assert np.allclose(shared.kernel.covariance, 1.2 * np.eye(2), atol=0.01)
    assert shared.outlier_warnings()[0].startswith("5.png is an outlier: its own estimate has FWHM 5.7")


@pytest.mark.parametrize(("shares", "is_bicubic"), [((0.9, 0.8, 0.0), True), ((0.9, 0.0, 0.1), False)])
def test_images_most_of_which_are_sharp_get_the_bicubic_kernel(estimates, shares, is_bicubic):
    kernels = [Kernel(gaussian(1.2, 2).array, 2, {"made_by": "learned", "bicubic_share": v}) for v in shares]
    shared = estimate_shared_kernel(estimates([*kernels, None]), Settings())
    if is_bicubic:
        assert shared.kernel.provenance["shared_by"] == 2
        assert shared.averaged == ()
    assert np.array_equal(shared.kernel.array, bicubic(2).array) == is_bicubic
    assert ("most images show no blur" in str(shared)) == is_bicubic


def test_the_order_of_the_photographs_does_not_matter(estimates):
    kernels = [_made(v) for v in (1.0, 1.9, 1.2, 5.0, 1.4)]
    forth = estimate_shared_kernel(estimates(kernels), SPECTRAL).kernel
    back = estimate_shared_kernel(estimates(kernels[::-1]), SPECTRAL).kernel
    assert np.allclose(forth.array, back.array, atol=1e-12)


def test_flat_and_small_images_are_excluded(estimates):
    shared = estimate_shared_kernel(
        estimates([Kernel(bicubic(2).array, 2, {"made_by": "bicubic"}), None, _made(1.0)]), SPECTRAL
    )
    assert [estimate.covariance is None for estimate in shared.estimates] == [True, True, False]
    assert (
        shared.exclusion_warnings()[-1]
        == "excluded from the shared kernel, because they are flat, too small or unreadable: 0.png, 1.png."
    )
    assert "from a single image, its uncertainty is unknown" in str(shared)


def test_an_estimate_that_is_mostly_bicubic_has_no_part_in_the_kernel(estimates):
    kernels = [
        Kernel(gaussian(v, 2).array, 2, {"made_by": "learned", "bicubic_share": share})
        for v, share in ((1.0, 0.5), (0.2, 0.51), (1.2, 0.0))
    ]
    shared = estimate_shared_kernel(estimates(kernels), SPECTRAL)
    assert [estimate.covariance is None for estimate in shared.estimates] == [False, True, False]
    assert np.allclose(shared.kernel.covariance, 1.1 * np.eye(2), atol=0.01)
    assert (
        shared.exclusion_warnings()[-1]
        == "excluded from the shared kernel, because they are as sharp as their pixels allow: 1.png."
    )


def test_a_shared_kernel_in_words():
    shared = SharedKernel(kernel=bicubic(2), estimates=(), spread=0.123, error=0.04)
    assert str(shared) == (
        "shared kernel from 0 of 0 images: FWHM 2.18 px in all directions; the widths vary by 12 %, the standard error "
        "of their mean is 4 %."
    )


@pytest.mark.parametrize(
    ("sigmas", "words"),
    [
        ((1.0, 1.5, 1.0, 1.5), "the widths of their own estimates vary by 23 %"),
        ((1.2, 1.5, 1.2, 1.5), None),
        ((1.0, 1.5), None),  # too few to tell
    ],
)
def test_estimates_that_vary_too_much_for_one_kernel_are_warned_of(estimates, sigmas, words):
    shared = estimate_shared_kernel(estimates([_made(sigma**2) for sigma in sigmas]), SPECTRAL)
    assert len(shared.averaged) == len(sigmas)
    warnings = shared.spread_warnings()
    assert len(warnings) == (words is not None)
    assert words is None or (words in warnings[0] and "leave out shared_kernel (--shared-kernel)" in warnings[0])


def test_images_without_any_measurable_blur_are_refused(estimates):
    with pytest.raises(ImageError, match="none of 2 images shows a measurable blur"):
        estimate_shared_kernel(estimates([None, None]), SPECTRAL)


def test_kernels_that_are_no_gaussians_are_averaged_tap_by_tap(estimates):
    line = np.zeros((8, 8))
    line[3:5, 1:7] = 1
    small = np.zeros((4, 4))
    small[0, 0] = small[3, 3] = small[0, 3] = small[3, 0] = 1
    kernels = [Kernel.normalised(line, 2, {"made_by": "x"}), Kernel.normalised(small, 2, {"made_by": "x"})]
    shared = estimate_shared_kernel(estimates(kernels), SPECTRAL)
    expected = (kernels[0].array + np.pad(kernels[1].array, 2)) / 2
    assert np.allclose(shared.kernel.array, expected, atol=1e-12)
    mean = (kernels[0].covariance + kernels[1].covariance) / 2
    assert np.allclose(shared.kernel.covariance, mean, atol=1e-9)


@pytest.fixture
def folder(tmp_path, pictures):
    """Two images, and a file that is none."""
    for number, picture in enumerate(pictures[:2]):
        lr = _lr(picture, gaussian(1.6, 2), number)[0].permute(1, 2, 0).numpy()
        Image.fromarray((lr * 255).round().astype(np.uint8)).save(tmp_path / f"{number}.png")
    (tmp_path / "damaged.png").write_bytes(b"no image")
    return tmp_path


def test_the_kernel_of_files_is_written_and_used_again(folder, monkeypatch, drawing):
    (folder / "out").mkdir()
    paths, manifest = [*sorted(folder.glob("*.png")), folder / "missing.png"], Manifest(folder / "out" / "m.jsonl")
    events = []
    first = shared_kernel_for(paths, SPECTRAL, manifest, device="cpu", listener=events.append)
    notices = [(event.is_plain, event.message) for event in events if isinstance(event, Notice)]
    assert [event.step for event in events if isinstance(event, StepDone)] == [1, 2, 3]
    assert first.warnings == ()
    assert first.noise.sigmas[1:] == pytest.approx((0.0055, 0.0046), rel=0.2)  # of B − Y and R − Y
    assert notices[0][0]
    assert notices[0][1].startswith("shared kernel from 2 of 3 images: FWHM ")
    damaged = folder / "damaged.png"
    assert notices[1:] == [
        (False, f"excluded from the shared kernel, because they are flat, too small or unreadable: {damaged}.")
    ]
    assert list((folder / "out").iterdir()) == []
    first.write()
    assert {path.name for path in (folder / "out").iterdir()} == {
        f"blindsr-shared.kernel.{suffix}" for suffix in ("npz", "png", "json")
    }
    monkeypatch.setattr(shared_module, "estimate_shared_kernel", lambda *_, **__: pytest.fail("estimated again"))
    events.clear()
    again = shared_kernel_for(paths, SPECTRAL, manifest, device="cpu", listener=events.append)
    assert np.allclose(again.kernel.array, first.kernel.array, atol=1e-7)
    assert again.noise == first.noise
    assert [(event.is_plain, event.message) for event in events] == notices
    with pytest.raises(pytest.fail.Exception):
        shared_kernel_for(paths[1:], SPECTRAL, manifest, device="cpu")


def test_a_size_must_mean_one_factor(folder):
    Image.new("RGB", (150, 150)).save(folder / "larger.png")
    with pytest.raises(ConfigError, match="needs ×2 and ×3 for these images"):
        shared_kernel_for(sorted(folder.glob("*.png")), Settings(size=(288, 288)), Manifest(folder / "m"))
    with pytest.raises(ConfigError, match=r"damaged\.png does not; check the name"):
        shared_kernel_for([folder / "damaged.png"], Settings(size=(288, 288)), Manifest(folder / "m"))


def test_the_kernel_does_not_depend_on_the_upscaler(pictures):
    sharp = _loaders([_lr(picture, bicubic(2), i) for i, picture in enumerate(pictures[:3])])
    published = Settings(upscaler="zssr")
    kernels = [estimate_shared_kernel(sharp, settings) for settings in (Settings(), published)]
    assert [shared.kernel.digest for shared in kernels] == 2 * [bicubic(2).digest]
    assert all("most images show no blur" in str(shared) for shared in kernels)


def film(path, pictures):
    """An animation whose first four frames have another blur than the last four."""
    frames = [_lr(p, gaussian(v, 2), n)[0] for n, (v, p) in enumerate((v, p) for v in (0.8, 2.8) for p in pictures[:4])]
    images = [Image.fromarray((255 * frame.permute(1, 2, 0).numpy()).round().astype(np.uint8)) for frame in frames]
    images[0].save(path, save_all=True, append_images=images[1:], duration=80, lossless=True)
    return path


def test_the_page_decides_on_which_images_of_a_file_are_used(tmp_path, pictures):
    path, manifest, kernels, events = film(tmp_path / "film.webp", pictures), Manifest(tmp_path / "m"), {}, []
    for page in (1, 8, "all"):
        series = shared_kernel_for(
            [path], SPECTRAL, manifest, device="cpu", files=FileOptions(page=page), listener=events.append
        )
        series.write()
        kernels[page] = series
    first, last, whole = (np.trace(kernels[page].kernel.covariance) for page in (1, 8, "all"))
    assert first + 0.3 < whole < last - 0.3
    assert kernels["all"].summary.startswith("shared kernel from 8 of 8 images: FWHM ")
    assert kernels["all"].summary.endswith(" They are spread over the frames or pages of the file.")
    assert kernels["all"].warnings[0].endswith("chosen by page (--page) is upscaled with a kernel of its own.")
    assert any(event.step == 8 for event in events if isinstance(event, StepDone))


def test_of_several_files_each_has_a_part(tmp_path, pictures, monkeypatch):
    names = []

    def estimate(images, *_, **__):
        names.extend(name.replace(str(tmp_path), "") for name, _ in images)
        for _, load in images:
            assert load().shape == (1, 3, 96, 96)
        return SharedKernel(kernel=bicubic(2), estimates=(), spread=0.1, error=0.1)

    monkeypatch.setattr(shared_module, "estimate_shared_kernel", estimate)
    paths = [film(tmp_path / f"{number}.webp", pictures) for number in range(3)]
    Image.fromarray(np.zeros((96, 96, 3), np.uint8)).save(tmp_path / "still.png")
    paths.append(tmp_path / "still.png")
    series = shared_kernel_for(paths, SPECTRAL, Manifest(tmp_path / "m"), device="cpu", files=FileOptions(page="all"))
    assert names == [*(f"/{n}.webp (frame {f})" for n in range(3) for f in (1, 8)), "/still.png"]
    assert series.summary.endswith(" They are spread over the frames or pages of 4 files.")


@pytest.mark.parametrize(("count", "words"), [(1, "shared kernel of 1 image: "), (3, "shared kernel of 3 images: ")])
def test_the_number_of_images_is_in_the_summary_of_a_bicubic_kernel(count, words):
    estimates = (ImageEstimate(name="a.png", covariance=None),) * count
    shared = SharedKernel(kernel=bicubic(2), estimates=estimates, spread=0, error=0, bicubic_reason="none is blurred")
    assert str(shared) == f"{words}none is blurred."


def test_noisy_photographs_without_a_visible_blur_get_one_kernel_all_the_same(tmp_path, pictures):
    noise = np.random.default_rng(0).normal(0, 28, (3, 96, 96, 3))
    for number, picture in enumerate(pictures[:3]):
        small = np.asarray(Image.fromarray(picture).resize((96, 96), Image.Resampling.BICUBIC))
        Image.fromarray(np.clip(small + noise[number], 0, 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
    paths, manifest, events = sorted(tmp_path.glob("*.png")), Manifest(tmp_path / "m.jsonl"), []
    series = shared_kernel_for(paths, Settings(), manifest, device="cpu", listener=events.append)
    with open_image(paths[1]) as opened:
        alone = blind.estimate_kernel(ColorSource(opened, torch.device("cpu")), Settings(), listener=ignore)
    assert np.allclose(series.kernel.array, alone.kernel.array, atol=1e-6)
    assert series.warnings == alone.warnings != ()
    assert series.summary.startswith(
        f"shared kernel of 3 images: none shows its blur clearly, the kernel is that of {paths[1]} on"
    )
    assert [event.message for event in events if isinstance(event, Notice)] == [series.summary, *series.warnings]
    series.write()
    assert shared_kernel_for(paths, Settings(), manifest, device="cpu").warnings == series.warnings


def test_the_colours_of_pages_stay_where_they_are_and_those_of_photographs_are_moved(tmp_path):
    wholes = data.astronaut()[:400, 60:460], data.coffee()[:400, 60:460]
    pages = [_lr(whole, gaussian(1.2, 2), i) for i, whole in enumerate(wholes)]
    pages = [Image.fromarray((255 * page[0].permute(1, 2, 0)).round().byte().numpy()) for page in pages]
    bands = [page.split() for page in pages]
    fringed = [Image.merge("RGB", (ImageChops.offset(red, 2, 0), green, blue)) for red, green, blue in bands]
    fringed[0].save(tmp_path / "a.tif", save_all=True, append_images=fringed[1:])

    def kernel_of(page, **changed):
        settings, files = replace(SPECTRAL, **changed), FileOptions(page=page)
        manifest = Manifest(tmp_path / f"{page} {changed}")
        return shared_kernel_for([tmp_path / "a.tif"], settings, manifest, device="cpu", files=files).kernel.digest

    assert kernel_of("all") == kernel_of("all", align_colors=False)
    assert kernel_of(1) != kernel_of(1, align_colors=False)


def test_images_that_cannot_be_used_have_no_shared_kernel(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="none of 1 images shows a measurable blur"):
        shared_kernel_for([tmp_path / "a.png"], SPECTRAL, Manifest(tmp_path / "m"), device="cpu")
