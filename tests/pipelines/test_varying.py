"""Kernels that vary over an image: maps, their files, upscaling with them, and their estimation."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

import blindsr
from blindsr.batch.task import TaskOptions, task_key
from blindsr.errors import ConfigError, KernelError, OutputError
from blindsr.estimators.auto import AutoConfig
from blindsr.events import ignore
from blindsr.kernels import Kernel, KernelEstimate, KernelMap, KernelStack, bicubic, dilate, gaussian, kernel_bytes
from blindsr.kernels.files import load_kernel, read_kernel
from blindsr.ops import degrade
from blindsr.ops.windows import TensorSource
from blindsr.pipelines import blind, varying
from blindsr.pipelines.checks import ConsistencyMeter, psnr_of
from blindsr.pipelines.files import estimate_file_kernel, upscale_file
from blindsr.pipelines.varying import WindowEstimate, axis_weights, grid_shape, map_of, variation, windows_of
from blindsr.registry import ESTIMATORS
from blindsr.upscalers.interpolation import LanczosUpscaler
from tests.images import photograph, psnr, quick_settings, samples

pytestmark = pytest.mark.usefixtures("small_network")

NARROW, WIDE = gaussian(0.8, 2), gaussian([[3.0, 0.4], [0.4, 2.2]], 2)
MAP = KernelMap([[NARROW, WIDE, NARROW], [WIDE, NARROW, WIDE]])
CLEAN = quick_settings(noise_sigma=0.0)


def run(image, kernel, settings=CLEAN, tile=None):
    return blind.run(TensorSource(image), settings, kernel=kernel, tile=tile)


@pytest.mark.parametrize(("length", "count"), [(100, 4), (37, 5), (8, 1)])
def test_weights_add_up_to_one_and_are_smooth(length, count):
    weights = axis_weights(torch.arange(-2.0, length + 2, 0.25), length, count)
    torch.testing.assert_close(weights.sum(0), torch.ones(weights.shape[1], dtype=torch.float64))
    assert weights.min() >= 0
    assert weights.diff(dim=1).abs().max() < 0.25 * 1.6 * count / length
    torch.testing.assert_close(axis_weights(torch.arange(length), length, count).flip(0, 1),
                               axis_weights(torch.arange(length), length, count))  # fmt: skip
    # In the middle of a cell its kernel alone is used.
    middles = (torch.arange(count) + 0.5) * length / count - 0.5
    torch.testing.assert_close(axis_weights(middles, length, count), torch.eye(count, dtype=torch.float64))


@pytest.mark.parametrize("scale", [1, 2, 2.5])
def test_a_map_of_equal_kernels_is_one_kernel(scale):
    """Up to the tail of the filters that a tile's halo cuts off, which is a hundredth of a grey level."""
    image = photograph(60, 72, top=60)
    settings = dataclasses.replace(CLEAN, scale=scale, noise_sigma=0.02)
    kernel = gaussian(1.2, settings.kernel_scale)
    one = run(image, kernel, settings)
    equal = run(image, KernelMap([[kernel] * 3] * 2), settings)
    assert 255 * (equal.image - one.image).abs().max() < 0.1
    assert equal.consistency_db == pytest.approx(one.consistency_db, abs=0.05)
    assert equal.kernel.digest == one.kernel.digest


def test_the_adaptation_is_shared_by_the_kernels():
    image = photograph(32, 36)
    settings = quick_settings(steps=2, noise_sigma=0.0)
    kernel = gaussian(1.2, 2)
    one, equal = run(image, kernel, settings), run(image, KernelMap([[kernel] * 2]), settings)
    assert 255 * (equal.image - one.image).abs().max() < 0.1
    assert equal.history == one.history


@pytest.mark.usefixtures("trained_network")
def test_the_middle_of_a_cell_is_the_result_of_its_kernel_and_tiles_make_no_difference():
    image, settings = photograph(64, 96, top=60), quick_settings(noise_sigma=0.02, strength=1.0)
    pair = KernelMap([[NARROW, WIDE]])
    varied = run(image, pair, settings)
    for kernel, left in zip(pair.flat, (48, 144), strict=True):
        alone = run(image, kernel, settings).image
        assert (varied.image - alone)[..., left - 2 : left + 2].abs().max() < 2e-3
    tiled = run(image, pair, settings, tile=64)
    assert 255 * (tiled.image - varied.image).abs().max() < 0.25
    assert (varied.image - alone).abs().max() > 0.02


@pytest.mark.usefixtures("trained_network")
def test_the_true_map_is_better_than_any_one_kernel():
    hr = photograph(96, 160, top=60, left=120)
    weights = axis_weights(torch.arange(80), 80, 2).float()
    lr = sum(weights[i] * degrade(hr, k.tensor(), 2) for i, k in enumerate((NARROW, WIDE)))
    settings = dataclasses.replace(CLEAN, kernel_error=0.03)
    varied = psnr(run(lr, KernelMap([[NARROW, WIDE]]), settings).image, hr)
    others = [psnr(run(lr, kernel, settings).image, hr) for kernel in (NARROW, WIDE, KernelMap([[NARROW, WIDE]]).mean)]
    assert varied > max(others) + 0.5


def test_the_consistency_is_that_of_the_map():
    hr = photograph(80, 120)
    weights = axis_weights(torch.arange(60), 60, 2).float()
    lr = sum(weights[i] * degrade(hr, k.tensor(), 2) for i, k in enumerate((NARROW, WIDE)))
    meters = [ConsistencyMeter(TensorSource(lr), k) for k in (KernelMap([[NARROW, WIDE]]), NARROW)]
    for meter in meters:
        for rows in hr.split(32, -2):
            meter.update(rows)
    own, other = (psnr_of([meter]) for meter in meters)
    assert own > 100 > 60 > other


def test_a_map_is_read_back_from_its_file(tmp_path):
    path = tmp_path / "map.npz"
    path.write_bytes(kernel_bytes(MAP, ".npz"))
    assert kernel_bytes(MAP, ".npz") == path.read_bytes()
    loaded, warnings = load_kernel(path, 2)
    assert isinstance(loaded, KernelMap)
    assert not warnings
    assert [k.provenance["made_by"] for k in loaded.flat] == [k.provenance["made_by"] for k in MAP.flat]
    np.testing.assert_array_equal(loaded.arrays(), MAP.arrays())
    with np.load(path) as archive:
        assert archive["kernel_map"].shape == (2, 3, MAP.size, MAP.size)
        assert archive["scale"] == 2
    with pytest.raises(KernelError, match="is a map of kernels that vary"):
        read_kernel(path, scale=2)
    with pytest.raises(KernelError, match="is a kernel map for scale 2, but scale 3 was requested"):
        load_kernel(path, 3)
    with pytest.raises(KernelError, match=r"must be one of \.npz"):
        kernel_bytes(MAP, ".mat")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"kernel_map": MAP.arrays()}, "must contain scale beside kernel_map"),
        ({"kernel_map": MAP.arrays()[0], "scale": 2}, r"must be numbers \(rows, columns, K, K\), got 3×"),
        ({"kernel_map": MAP.arrays()[..., :-1, :-1], "scale": 2}, "K ≡ 2"),
        ({"kernel_map": np.full((2, 2, 4, 4), np.nan), "scale": 2}, "must be finite"),
        ({"kernel_map": np.ones((65, 1, 2, 2)), "scale": 2}, "1 to 64 rows"),
        ({"kernel_map": np.array([["a"]]), "scale": 2}, "must be numbers"),
        ({"kernel_map": MAP.arrays(), "scale": 2, "provenance": "{"}, "cannot be read as a kernel map"),
    ],
)
def test_a_file_that_is_no_map_is_refused(tmp_path, content, message):
    np.savez(tmp_path / "map.npz", **content)
    with pytest.raises(KernelError, match=message):
        load_kernel(tmp_path / "map.npz", 2)


def test_a_map_needs_one_scale_and_rows_of_one_length():
    with pytest.raises(KernelError, match="for one scale"):
        KernelMap([[NARROW, gaussian(1.0, 3)]])
    for rows in ([], [[]], [[NARROW], [NARROW, WIDE]]):
        with pytest.raises(KernelError, match="1 to 64 rows"):
            KernelMap(rows)


def test_the_key_of_a_task_depends_on_the_grid_and_the_kernels():
    maps = [MAP, KernelMap([MAP.flat]), MAP.each(lambda k: dilate(k, 1.1)), KernelMap([[k] for k in MAP.flat])]
    assert len({task_key("", TaskOptions(kernel=m)) for m in [*maps, NARROW, KernelStack([NARROW], ["B4"])]}) == 6
    assert task_key("", TaskOptions(kernel=MAP)) == task_key("", TaskOptions(kernel=KernelMap(MAP.kernels)))


@pytest.mark.parametrize("size", [(100, 100), (320, 170), (3000, 4000), (200, 9000)])
def test_windows_cover_the_image_and_lie_in_it(size):
    shape, windows = grid_shape(*size), windows_of(*size)
    assert len(windows) == shape[0] * shape[1]
    seen = np.zeros(size, bool)
    for rows, columns in windows:
        assert rows.start >= 0 <= columns.start
        assert rows.stop <= size[0]
        assert columns.stop <= size[1]
        seen[rows, columns] = True
    assert seen.all()


def estimates(kernels, errors):
    return [WindowEstimate(kernel=k, error=e) for k, e in zip(kernels, errors, strict=True)]


def test_windows_that_differ_by_less_than_their_errors_are_one_kernel():
    kernels = [gaussian(v, 2) for v in (1.0, 1.1, 0.95, 1.05)]
    assert variation(estimates(kernels, [0.1] * 4)) < 0.5
    assert variation(estimates([NARROW, WIDE] * 2, [0.1] * 4)) > varying.MIN_VARIATION
    assert variation(estimates([NARROW, WIDE] * 2, [0.1, 1.0] * 2)) < varying.MIN_VARIATION
    assert variation(estimates([NARROW], [0.1])) == 0


def test_the_bicubic_part_of_an_uncertain_window_is_no_evidence():
    def estimate(share, sharp):
        kernel = Kernel(NARROW.array, 2, {"made_by": "auto", "bicubic_share": share, "kernel_error": 0.03})
        metrics = {"expected_error": 0.1, "kind_sharp": sharp}
        return varying.window_estimate(KernelEstimate(kernel=kernel, method="auto", metrics=metrics, kernel_error=0.03))

    assert estimate(0.0, 0.0).error == pytest.approx(0.1)
    assert estimate(0.75, 0.9).error == pytest.approx(0.1)
    assert estimate(0.5, 0.1).error == pytest.approx(0.2)
    assert estimate(0.97, 0.1).error == 1.0


def test_a_window_without_texture_takes_the_kernel_of_its_neighbours():
    kernels = [NARROW, NARROW, bicubic(2), NARROW, NARROW, WIDE, WIDE, WIDE]
    errors = [0.1, 0.1, 1.0, 0.1, 0.1, 0.1, 0.1, 0.1]
    made = map_of(estimates(kernels, errors), (1, 8), "auto")
    expected = NARROW.covariance
    np.testing.assert_allclose(made.kernels[0][2].covariance, expected, rtol=0.1, atol=0.03)
    np.testing.assert_allclose(made.kernels[0][7].covariance, WIDE.covariance, rtol=0.05, atol=0.03)
    assert np.trace(made.kernels[0][4].covariance) > np.trace(made.kernels[0][3].covariance)
    same = map_of(estimates([NARROW] * 4, [0.1, 1.0, 0.2, 0.3]), (2, 2), "auto")
    for kernel in same.flat:
        assert kernel.provenance["made_by"] == "auto"
        np.testing.assert_allclose(kernel.array, NARROW.array, atol=1e-12)


class HalfAndHalf:
    """Windows to the left of the middle have one kernel, those to the right another; the texture decides which."""

    name, scales, min_side, config = "auto", (2, 3, 4), 8, AutoConfig()

    def estimate(self, lr, scale, *, listener):
        kernel = gaussian(3.0 if float(lr.mean()) > 0.55 else 0.8, scale)
        return KernelEstimate(
            kernel=Kernel(kernel.array, scale, {"made_by": "auto", "kernel_error": 0.05}), method="auto",
            kernel_error=0.05,
        )  # fmt: skip


@pytest.fixture
def half(monkeypatch):
    monkeypatch.setattr(blindsr.settings.Settings, "create_estimator", lambda self: HalfAndHalf())


def image_of_two(left, right):
    texture = samples(200, 400, name="coffee", top=50, left=50).astype(int) // 4
    return (texture + np.where(np.arange(400) < 200, left, right)[None, :, None]).astype(np.uint8)


@pytest.mark.parametrize("scale", [2, 3, 6])
def test_a_photograph_with_two_halves_gets_a_map(half, scale, tmp_path):
    result = blindsr.estimate_kernel(image_of_two(20, 180), scale, varying=True)
    assert result.kernel_map.shape == (1, 2)
    widths = [np.trace(k.covariance) for k in result.kernel_map.flat]
    assert widths[1] > 1.5 * widths[0]
    assert result.metrics["kernel_variation"] > varying.MIN_VARIATION
    assert result.kernel.digest == result.kernel_map.mean.digest
    assert {k.provenance["kernel_error"] for k in result.kernel_map.flat} == {0.05}


def test_a_photograph_with_one_blur_gets_one_kernel_and_a_line_says_so(half):
    image = image_of_two(20, 20)
    result, plain = (blindsr.estimate_kernel(image, varying=v) for v in (True, False))
    assert result.kernel_map is None
    assert result.warnings[-1] == (
        "the kernels of 2 parts of the photograph do not differ by more than their errors; one kernel is used for all "
        "of it."
    )
    assert result.kernel.digest == plain.kernel.digest
    small = blindsr.estimate_kernel(image[:100, :100], varying=True)
    assert small.warnings[-1] == "100×100 px are too few for a map of kernels; one kernel is used for all of it."


def test_the_map_of_a_photograph_is_written_and_used_again(half, tmp_path, drawing, monkeypatch):
    monkeypatch.setattr(LanczosUpscaler, "uses_kernel", True)  # it stands here for a method that does
    Image.fromarray(image_of_two(20, 180)).save(tmp_path / "a.png")
    settings = dataclasses.replace(CLEAN, varying=True, upscaler="lanczos", kernel_width=1.2)
    result = upscale_file(tmp_path / "a.png", settings, device="cpu")
    assert result.record["kernel_map"]["columns"] == 2
    assert result.record["measured_kernel_map"]["digest"] != result.record["kernel_map"]["digest"]
    assert result.record["estimate"]["metrics"]["kernel_variation"] > varying.MIN_VARIATION
    json.dumps(result.record)
    again = upscale_file(tmp_path / "a.png", dataclasses.replace(settings, kernel_width=1), device="cpu",
                         kernel=load_kernel(result.outputs.kernel, 2)[0], output=tmp_path / "b.png")  # fmt: skip
    assert again.record["kernel_map"]["cells"][0][1]["fwhm"] == result.record["kernel_map"]["cells"][0][1]["fwhm"]
    with Image.open(result.outputs.image) as first, Image.open(again.outputs.image) as second:
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))
    with Image.open(result.outputs.plot) as plot:
        assert plot.size == (1500, 960)
    kernel = estimate_file_kernel(tmp_path / "a.png", settings, output=tmp_path / "c.npz", device="cpu")
    assert isinstance(load_kernel(kernel.outputs.kernel, 2)[0], KernelMap)
    with pytest.raises(OutputError, match=r"are written to a \.npz file, got d\.mat"):
        estimate_file_kernel(tmp_path / "a.png", settings, output=tmp_path / "d.mat", device="cpu")


def test_methods_that_cannot_use_a_map_say_so():
    image = photograph(40, 40)
    with pytest.raises(ConfigError, match="dip needs the whole image at once"):
        run(image, MAP, dataclasses.replace(CLEAN, upscaler="dip"))
    with pytest.raises(ConfigError, match="dualsr estimates one kernel for the whole image"):
        run(image, MAP, dataclasses.replace(CLEAN, upscaler="dualsr"))
    with pytest.raises(ConfigError, match="leave out the region, or varying"):
        blindsr.settings.Settings(varying=True, region=blindsr.settings.Region(x=0, y=0, width=9, height=9))
    with pytest.raises(ConfigError, match="needs one kernel, got a stack or a map"):
        blindsr.degrade(samples(20, 20), MAP)


@pytest.mark.parametrize("name", [name for name in ESTIMATORS.names() if name != "bicubic"])
def test_a_flat_part_is_no_evidence_for_the_bicubic_kernel(name):
    estimate = ESTIMATORS.create(name).estimate(torch.full((1, 3, 128, 128), 0.5), 2, listener=ignore)
    assert estimate.kernel.provenance["in_place_of"]
    assert varying.window_estimate(estimate).error == 1
