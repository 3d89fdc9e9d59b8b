"""Jobs on files: what is written, what is kept of the photograph, and what is refused before the work."""

import json
from dataclasses import replace

import numpy as np
import pytest
import tifffile
import torch
from PIL import ExifTags, Image
from skimage import data

import blindsr
from blindsr.errors import ConfigError, ImageError, KernelError, OutputError
from blindsr.events import Notice
from blindsr.image_io import FileOptions, FileSource, read_photo
from blindsr.kernels import Kernel, KernelStack, bicubic, gaussian
from blindsr.kernels.files import read_kernel
from blindsr.pipelines import blind, crop, memory
from blindsr.pipelines.files import estimate_file_kernel, upscale_file
from blindsr.pipelines.record import grouped, plain
from blindsr.settings import Region, Settings
from tests.images import INTERPOLATE, quick_settings, samples, upscale_valid

pytestmark = pytest.mark.usefixtures("small_network")

PASS = quick_settings(noise_sigma=0.0)
LANCZOS = Settings(estimator="bicubic", upscaler="lanczos", noise_sigma=0.0)
KERNEL = gaussian([[1.5, 0.3], [0.3, 1.0]], 2)
PHOTO = samples(48, 40, name="astronaut", top=20, left=200)


@pytest.fixture
def save(tmp_path):
    def write(array, name="photo.png", **options):
        path = tmp_path / name
        Image.fromarray(np.ascontiguousarray(array)).save(path, **options)
        return path

    return write


@pytest.fixture
def photo(save):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Artist] = 6, "Secret"
    return save(PHOTO, exif=exif)


# One path for arrays and files, whole images and tiles.


@pytest.fixture
def jpeg(save):
    return save(samples(66, 80, name="astronaut", top=20, left=200), "photo.jpg", quality=90)


@pytest.mark.parametrize("estimator", ["spectral", "bicubic"])
def test_a_file_and_the_python_call_on_it_give_equal_pixels(jpeg, estimator):
    settings = quick_settings(estimator=estimator)
    from_file = read_array(upscale_file(jpeg, settings, device="cpu").outputs.image)
    from_path = blindsr.estimate_and_upscale(jpeg, preset=settings, device="cpu")
    with Image.open(jpeg) as image:
        from_image = blindsr.estimate_and_upscale(image, preset=settings, device="cpu")
        tables = [image.quantization[key] for key in sorted(image.quantization)]
        array = np.asarray(image)
    resolver = blindsr.SuperResolver(preset=settings, device="cpu")
    from_array = resolver(array, jpeg_tables=tables).image
    for other in (from_path, from_image, from_array):
        np.testing.assert_array_equal(from_file, other)


@pytest.mark.usefixtures("trained_network")
def test_an_array_a_file_and_the_file_in_tiles_give_equal_bits(tmp_path, monkeypatch):
    """In float32 the pixels of equal tiles are equal to the bit, whatever the source and the writer."""
    floats = samples(80, 70, name="astronaut", top=20, left=200).astype(np.float32) / 255
    tifffile.imwrite(tmp_path / "photo.tif", floats, photometric="rgb", rowsperstrip=7)
    monkeypatch.setattr(memory, "default_tile", lambda scale: 48)
    in_tiles = tifffile.imread(upscale_file(tmp_path / "photo.tif", PASS, kernel=KERNEL, device="cpu").outputs.image)
    array = blindsr.upscale(floats, KERNEL, preset=PASS, device="cpu")
    np.testing.assert_array_equal(in_tiles, array)
    monkeypatch.setattr(memory, "default_tile", lambda scale: 1024)
    whole = blindsr.upscale(floats, KERNEL, preset=PASS, device="cpu")
    np.testing.assert_allclose(in_tiles, whole, atol=0.3 / 255)


def write(folder, kind):
    """A photograph of some kind, 44×36."""
    pixels = data.astronaut()[20:56, 200:244]
    path = folder / ("photo.tif" if kind in ("uint16", "float missing", "bands") else "photo.png")
    if kind == "alpha":
        alpha = np.tile(np.linspace(0, 255, 44).astype(np.uint8), (36, 1))
        Image.fromarray(np.dstack([pixels, alpha])).save(path)
    elif kind == "uint16":
        tifffile.imwrite(path, pixels.astype(np.uint16) * 257, photometric="rgb", rowsperstrip=8)
    elif kind == "float missing":
        floats = pixels[..., 0].astype(np.float32) * 3 - 100
        floats[10:14, 20:30] = np.nan
        tifffile.imwrite(path, floats)
    elif kind == "bands":
        tifffile.imwrite(path, np.dstack([pixels, pixels[..., :1]]), photometric="minisblack", planarconfig="contig")
    elif kind == "heic":
        path = folder / "photo.heic"
        pillow_heif = pytest.importorskip("pillow_heif")
        pillow_heif.from_bytes("RGB", (44, 36), pixels.tobytes()).save(path, quality=95)
    elif kind == "turned":
        path = folder / "photo.jpg"
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(pixels).save(path, quality=100, exif=exif)
    else:
        Image.fromarray(pixels).save(path)
    return path


# What a network has to do with bands and alpha it is asked; the other kinds differ in their files alone.
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        *((kind, PASS) for kind in ("plain", "alpha", "bands")),
        *((kind, LANCZOS) for kind in ("uint16", "float missing", "heic", "turned")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_tiles_give_the_same_file(tmp_path, monkeypatch, kind, settings):
    source = write(tmp_path, kind)
    whole = upscale_file(source, settings, kernel=KERNEL, output=tmp_path / "whole.tif", device="cpu")
    monkeypatch.setattr(memory, "default_tile", lambda scale: 32)
    tiled = upscale_file(source, settings, kernel=KERNEL, output=tmp_path / "tiled.tif", device="cpu")
    first, second = read_photo(whole.outputs.image), read_photo(tiled.outputs.image)
    assert (first.dtype, first.pixels.shape, first.has_alpha) == (second.dtype, second.pixels.shape, second.has_alpha)
    if first.valid is None:
        # Samples beside missing data are filled from the window: only complete photographs are compared in full.
        np.testing.assert_allclose(first.pixels, second.pixels, atol=1.5 / 255)
    else:
        assert np.array_equal(first.valid, second.valid)
    if first.alpha is not None:
        np.testing.assert_allclose(first.alpha, second.alpha, atol=1.01 / 255)
    assert tiled.run.consistency_db == pytest.approx(whole.run.consistency_db, abs=0.5)
    assert tiled.record["output"] == whole.record["output"]


def test_kernels_of_bands_work_on_files_in_tiles(tmp_path, monkeypatch):
    source = write(tmp_path, "bands")
    kernels = KernelStack([KERNEL, gaussian(1.0, 2), gaussian(1.3, 2), bicubic(2)], ["B4", "B3", "B2", "B8"])
    monkeypatch.setattr(memory, "default_tile", lambda scale: 32)
    result = upscale_file(source, PASS, kernel=kernels, device="cpu")
    assert read_photo(result.outputs.image).pixels.shape == (72, 88, 4)
    assert list(result.record["band_kernels"]) == ["B4", "B3", "B2", "B8"]


@pytest.mark.parametrize("is_transparent", [False, True])
def test_a_grey_photograph_in_rgb_stays_grey_in_tiles(tmp_path, save, monkeypatch, is_transparent):
    monkeypatch.setattr(memory, "default_tile", lambda scale: 32)
    grey = PHOTO[..., 1]
    array = np.dstack([grey] * 3)
    if is_transparent:
        alpha = np.full(grey.shape, 255, np.uint8)
        alpha[:20] = 0
        array[:10] = (200, 30, 90)  # a colour that nobody sees
        array, grey = np.dstack([array, alpha]), np.dstack([grey, alpha])
    result = upscale_file(save(array), PASS, kernel=KERNEL, output=tmp_path / "rgb.png", device="cpu")
    expected = upscale_file(save(grey, "grey.png"), PASS, kernel=KERNEL, output=tmp_path / "g.png", device="cpu")
    pixels = read_photo(result.outputs.image).pixels
    assert pixels.shape[2] == 3
    np.testing.assert_array_equal(pixels, read_photo(expected.outputs.image).pixels.repeat(3, 2))


def test_a_photograph_is_opened_once(jpeg, monkeypatch):
    opened, original = [], type(jpeg).open

    def counted(self, *args, **kwargs):
        if self == jpeg:
            opened.append(args)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(type(jpeg), "open", counted)
    upscale_file(jpeg, INTERPOLATE, device="cpu")
    assert len(opened) == 1


# What is written.


def test_the_record_has_what_is_needed_to_repeat_and_judge_the_run(save):
    settings = quick_settings(steps=2, estimator="spectral")
    result = upscale_file(save(PHOTO), settings, device="cpu")
    record = json.loads(result.outputs.record.read_text(encoding="utf-8"))
    assert record == result.record
    assert record["input"] | {"sha256": ""} == {
        "name": "photo.png", "sha256": "", "width": 40, "height": 48, "colour_channels": 3, "alpha": False,
    }  # fmt: skip
    assert len(record["input"]["sha256"]) == 64
    assert record["output"] == {"width": 80, "height": 96}
    assert record["settings"] == plain(settings.as_dict())
    assert set(record["settings"]["configs"]) == {"spectral", "pretrained"}
    assert record["versions"]["blindsr"] == blindsr.__version__
    assert record["versions"]["torch"] == str(torch.__version__)
    assert record["machine"]["device"] == "cpu"
    assert record["machine"]["threads"] == torch.get_num_threads()
    assert record["precision"] == "float32"
    assert record["estimate"]["method"] == "spectral"
    assert record["degradation"]["kernel_error"] == 0.04
    assert record["consistency"]["psnr_db"] == result.run.consistency_db
    assert "does not prove" in record["consistency"]["meaning"]
    assert {"read", "kernel", "fit", "apply", "write"} == set(record["timings"])
    assert record["kernel"]["digest"] == result.kernel.digest
    assert record["files"] == {
        "image": "photo_blindsr_x2.png",
        "kernel": "photo_blindsr_x2.kernel.npz",
        "kernel_plot": "photo_blindsr_x2.kernel.png",
        "record": "photo_blindsr_x2.json",
    }


def test_the_kernel_beside_the_result_is_the_one_that_was_used(save, drawing):
    result = upscale_file(save(PHOTO), PASS, kernel=KERNEL, kernel_warnings=("the key was guessed.",), device="cpu")
    again, _ = read_kernel(result.outputs.kernel, scale=2)
    assert np.array_equal(again.array, KERNEL.array)
    with Image.open(result.outputs.plot) as plot:
        assert plot.format == "PNG"
    assert result.record["estimate"] is None
    assert "the key was guessed." in result.record["warnings"]


def test_estimating_the_kernel_writes_no_image(save):
    source = save(PHOTO)
    result = estimate_file_kernel(source, Settings(estimator="spectral"), device="cpu")
    assert result.run is None
    assert sorted(p.name for p in source.parent.iterdir()) == [
        "photo.png",
        "photo_blindsr_x2.kernel.json",
        "photo_blindsr_x2.kernel.npz",
        "photo_blindsr_x2.kernel.png",
    ]
    record = json.loads(result.outputs.record.read_text(encoding="utf-8"))
    assert "consistency" not in record
    assert record["kernel"]["digest"] == result.kernel.digest


def test_the_same_seed_gives_the_same_files(save):
    source, settings = save(PHOTO), quick_settings(steps=2, estimator="spectral")
    first, second = (
        upscale_file(source, settings, output=source.with_name(n), device="cpu") for n in ("a.png", "b.png")
    )
    assert first.outputs.image.read_bytes() == second.outputs.image.read_bytes()
    assert first.outputs.kernel.read_bytes() == second.outputs.kernel.read_bytes()


def test_the_image_and_its_record_describe_the_same_run(photo):
    result = upscale_file(photo, INTERPOLATE, device="cpu")
    provenance = json.loads(dict(read_photo(result.outputs.image).texts)["blindsr"])
    assert provenance["kernel"] == result.record["kernel"]["digest"]
    assert provenance["input_sha256"] == result.record["input"]["sha256"]
    assert provenance["scale"] == 2
    assert provenance["settings"] == result.record["settings"]


def test_no_folder_of_the_user_is_in_the_image(photo, tmp_path, monkeypatch):
    from blindsr.upscalers.pretrained.weights import BUNDLED

    folder = tmp_path / "private folder"
    folder.mkdir()
    weights = folder / "mine.safetensors"
    weights.write_bytes(BUNDLED["pretrained"].read_bytes())
    content = upscale_file(
        photo, PASS.with_config("pretrained", weights=weights), kernel=KERNEL, device="cpu"
    ).outputs.image.read_bytes()
    assert b"mine.safetensors" in content
    assert b"private folder" not in content


def test_without_metadata_the_image_is_upright_and_has_no_provenance(photo):
    result = upscale_file(photo, INTERPOLATE, files=FileOptions(strip_metadata=True), device="cpu")
    content = result.outputs.image.read_bytes()
    assert b"Secret" not in content
    assert b"blindsr" not in content
    assert read_photo(result.outputs.image).size == (96, 80)
    assert result.outputs.record.exists()


@pytest.mark.parametrize(("format_", "suffix"), [("tiff", ".tif"), ("jpeg", ".jpg"), ("webp", ".webp")])
def test_the_requested_format_is_written(photo, format_, suffix):
    result = upscale_file(photo, INTERPOLATE, files=FileOptions(format=format_), device="cpu")
    assert result.outputs.image.name == f"photo_blindsr_x2{suffix}"
    assert read_photo(result.outputs.image).size == (96, 80)


def test_a_lower_quality_makes_a_smaller_file(photo, tmp_path):
    sizes = []
    for quality in (20, 90):
        output = tmp_path / f"{quality}.jpg"
        upscale_file(photo, INTERPOLATE, output=output, files=FileOptions(quality=quality), device="cpu")
        sizes.append(output.stat().st_size)
    assert sizes[0] < sizes[1] - 1000


# What is kept of the photograph.


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_channels_are_kept(save, mode):
    image = Image.fromarray(PHOTO).convert(mode)
    if "A" in mode:
        image.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 40).astype(np.uint8), (48, 1))))
    result = upscale_file(save(np.asarray(image)), INTERPOLATE, device="cpu")
    with Image.open(result.outputs.image) as larger:
        assert (larger.mode, larger.size) == (mode, (80, 96))


def test_colour_of_transparent_pixels_does_not_bleed(save):
    array = np.zeros((40, 48, 4), np.uint8)
    array[..., 0] = 255  # red, visible on the left only
    array[:, :24, 3] = 255
    array[:, 24:, :3] = (0, 255, 0)  # green, transparent
    larger = read_photo(upscale_file(save(array), INTERPOLATE, device="cpu").outputs.image)
    visible = larger.alpha > 0.05
    assert visible.any()
    assert larger.pixels[visible][:, 1].max() < 0.02, "transparent green is visible"
    assert larger.pixels[visible][:, 0].min() > 0.98, "the edge is darkened"


@pytest.mark.parametrize(("suffix", "settings"), [(".png", PASS), (".tif", LANCZOS), (".webp", LANCZOS)])
def test_an_alpha_channel_of_data_is_upscaled_as_a_band(save, tmp_path, suffix, settings):
    mask = np.zeros(PHOTO.shape[:2], np.uint8)
    mask[10:30, 5:25] = 200
    samples = np.dstack([PHOTO, mask])
    source, files = save(samples), FileOptions(alpha="data")
    result = upscale_file(source, settings, kernel=KERNEL, output=tmp_path / f"b{suffix}", files=files, device="cpu")
    written = read_photo(result.outputs.image)
    expected = blindsr.upscale(samples, KERNEL, preset=settings, device="cpu")
    np.testing.assert_array_equal(np.round(255 * np.dstack([written.pixels, written.alpha])), expected)
    assert (result.record["input"]["colour_channels"], result.record["input"]["alpha"]) == (4, False)
    with pytest.raises(OutputError, match="holds no alpha channel"):
        upscale_file(source, settings, kernel=KERNEL, output=tmp_path / "c.jpg", files=files, device="cpu")


def test_sixteen_bits_and_floats_are_kept(tmp_path):
    tifffile.imwrite(tmp_path / "deep.tif", PHOTO.astype(np.uint16) * 257, photometric="rgb")
    tifffile.imwrite(tmp_path / "float.tif", (data.camera()[:40, :48] / 255).astype(np.float32))
    deep, floats = (upscale_file(tmp_path / n, INTERPOLATE, device="cpu") for n in ("deep.tif", "float.tif"))
    assert deep.outputs.image.name == "deep_blindsr_x2.png"
    assert read_photo(deep.outputs.image).dtype == np.uint16
    assert floats.outputs.image.name == "float_blindsr_x2.tif"


@pytest.mark.parametrize("nodata", [None, -9999.0])
def test_missing_data_stays_missing_and_the_rest_keeps_its_range(tmp_path, nodata):
    values = data.moon()[:40, :36].astype(np.float32) * 20 - 700
    is_missing = np.zeros(values.shape, bool)
    is_missing[5:12, 20:30] = True
    written = np.where(is_missing, np.nan if nodata is None else nodata, values).astype(np.float32)
    tags = [] if nodata is None else [(42113, "s", 0, str(nodata), True)]
    tifffile.imwrite(tmp_path / "a.tif", written, extratags=tags)
    result = upscale_file(tmp_path / "a.tif", INTERPOLATE, device="cpu")
    assert result.outputs.image.suffix == ".tif"
    larger = tifffile.imread(result.outputs.image)
    missing = np.isnan(larger) if nodata is None else larger == nodata
    np.testing.assert_array_equal(missing, is_missing.repeat(2, 0).repeat(2, 1))
    assert larger[~missing].min() > values.min() - 60
    assert abs(larger[~missing].mean() - values[~is_missing].mean()) < 3
    assert any("missing data in 70 samples" in warning for warning in result.warnings)


@pytest.mark.parametrize("scale", [2.0, 1.5])
def test_a_geotiff_in_tiles_lies_where_rasterio_expects_it(tmp_path, monkeypatch, scale):
    rasterio = pytest.importorskip("rasterio")
    bands = data.astronaut()[20:68, 200:264, :1].astype(np.uint16).transpose(2, 0, 1) * 11 + 1
    bands = np.concatenate([bands, bands[:, ::-1], bands[:, :, ::-1], bands // 2 + 1])
    bands[:, 10:20, 30:40] = 0
    transform = rasterio.Affine(10.0, 0.0, 399960.0, 0.0, -10.0, 5300040.0)
    profile = {"driver": "GTiff", "width": 64, "height": 48, "count": 4, "dtype": "uint16", "crs": "EPSG:32632"}
    with rasterio.open(tmp_path / "a.tif", "w", transform=transform, nodata=0, tiled=True, **profile) as file:
        file.write(bands)
    monkeypatch.setattr(memory, "default_tile", lambda scale: 32)
    result = upscale_file(tmp_path / "a.tif", replace(PASS, scale=scale), kernel=KERNEL, device="cpu")
    assert result.outputs.image.suffix == ".tif"
    with rasterio.open(tmp_path / "a.tif") as before, rasterio.open(result.outputs.image) as after:
        assert (after.width, after.height, after.count) == (64 * scale, 48 * scale, 4)
        assert (after.crs, after.nodata, after.dtypes) == (before.crs, before.nodata, before.dtypes)
        # As rasterio's documentation scales a transform: pixels are smaller, the corner stays.
        expected = (10 / scale, 0, 399960, 0, -10 / scale, 5300040)
        assert tuple(after.transform)[:6] == pytest.approx(expected, abs=1e-9)
        assert after.bounds == pytest.approx(before.bounds)
        missing = after.read_masks(1) == 0
        assert np.array_equal(missing, ~upscale_valid(before.read_masks(1) > 0, *missing.shape))
        assert after.read(1)[~missing].min() > 0


# Warnings and refusals.


def test_warnings_of_the_file_are_reported_and_recorded(save):
    Image.fromarray(PHOTO).convert("CMYK").save(save(PHOTO).with_name("c.jpg"))
    source, heard = save(PHOTO).with_name("c.jpg"), []
    result = upscale_file(source, INTERPOLATE, device="cpu", listener=heard.append)
    reported = [event.message for event in heard if isinstance(event, Notice)]
    assert reported
    assert set(reported) <= set(result.warnings)
    assert list(result.warnings) == result.record["warnings"]


@pytest.mark.parametrize("name", ["photo.jpg", "stdin"])
def test_what_jpeg_compression_lost_is_treated_as_noise(save, tmp_path, name):
    source = tmp_path / name
    Image.fromarray(PHOTO).save(source, "JPEG", quality=60)
    settings = quick_settings()
    jpeg = upscale_file(source, settings, kernel=KERNEL, output=tmp_path / "x.png", device="cpu")
    plain_png = upscale_file(save(PHOTO, "plain.png"), settings, kernel=KERNEL, device="cpu")
    assert jpeg.run.degradation.compression_sigma > 1 / 255
    assert any("JPEG compression" in warning for warning in jpeg.warnings)
    assert plain_png.run.degradation.compression_sigma == 0


@pytest.mark.parametrize("suffix", [".webp", ".avif"])
def test_what_another_codec_lost_is_treated_as_noise_of_files_and_pillow_images(tmp_path, suffix):
    Image.fromarray(PHOTO).save(tmp_path / f"a{suffix}", quality=40)
    result = upscale_file(tmp_path / f"a{suffix}", quick_settings(), kernel=KERNEL, device="cpu")
    assert result.run.degradation.compression_sigma > 1 / 255
    name = {".webp": "WebP", ".avif": "AVIF"}[suffix]
    assert any(w.startswith(f"{name} compression, with an error of about ") for w in result.warnings)
    with Image.open(tmp_path / f"a{suffix}") as image:
        from_pillow = blindsr.SuperResolver(preset=quick_settings(), device="cpu")(image, kernel=KERNEL)
    assert from_pillow.degradation.compression_sigma == result.run.degradation.compression_sigma
    assert set(from_pillow.warnings) <= set(result.warnings)
    assert any(name in w for w in from_pillow.warnings)


@pytest.mark.parametrize(("wanted", "noise"), [("auto", None), ("on", 0.02), ("off", None)])
def test_linear_light_is_decided_by_kernel_and_option(tmp_path, wanted, noise):
    source = write(tmp_path, "plain")
    kernel = Kernel(KERNEL.array, 2, {"made_by": "psf"})
    result = upscale_file(source, quick_settings(noise_sigma=noise), kernel=kernel, linear_light=wanted, device="cpu")
    assert any("in linear light" in warning for warning in result.warnings) is (wanted == "auto")
    encoded = upscale_file(
        source, PASS, kernel=kernel, linear_light="off", output=tmp_path / "encoded.png", device="cpu"
    )
    same = np.array_equal(read_photo(result.outputs.image).pixels, read_photo(encoded.outputs.image).pixels)
    assert same is (wanted == "off")
    if noise is not None:
        assert result.run.degradation.noise_sigma[0] != noise


def test_a_kernel_for_another_scale_is_refused_and_nothing_is_written(save):
    source = save(PHOTO)
    with pytest.raises(KernelError, match="scale 2"):
        upscale_file(source, PASS, kernel=bicubic(3))
    assert [p.name for p in source.parent.iterdir()] == ["photo.png"]


def test_existing_results_are_kept_unless_they_may_be_replaced(save):
    source = save(PHOTO)
    upscale_file(source, INTERPOLATE)
    with pytest.raises(OutputError, match="exists already; use --force to overwrite it"):
        upscale_file(source, INTERPOLATE)
    upscale_file(source, INTERPOLATE, overwrite=True)


def test_a_name_and_a_format_that_contradict_each_other_are_refused(photo, tmp_path):
    with pytest.raises(OutputError, match=r"jpeg|JPEG"):
        upscale_file(photo, INTERPOLATE, output=tmp_path / "a.png", files=FileOptions(format="jpeg"), device="cpu")


def test_too_many_pixels_are_refused_until_they_are_allowed(photo):
    with pytest.raises(ImageError, match="at most 1000 pixels"):
        upscale_file(photo, INTERPOLATE, files=FileOptions(max_pixels=1000), device="cpu")
    allowed = FileOptions(max_pixels=PHOTO.size // 3)
    assert upscale_file(photo, INTERPOLATE, files=allowed, device="cpu").outputs.image.exists()


def test_a_result_too_wide_for_its_format_is_refused_before_the_work(tmp_path):
    Image.new("RGB", (8200, 2)).save(tmp_path / "a.png")
    with pytest.raises(OutputError, match="16383 px"):
        upscale_file(tmp_path / "a.png", INTERPOLATE, files=FileOptions(format="webp"), device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_an_error_during_the_work_leaves_nothing(tmp_path, monkeypatch):
    source = write(tmp_path, "plain")

    def fail(*_, **__):
        raise ImageError("the estimate failed")

    monkeypatch.setattr(blind, "estimate_kernel", fail)
    with pytest.raises(ImageError, match="the estimate failed"):
        upscale_file(source, PASS, device="cpu")
    monkeypatch.undo()
    monkeypatch.setattr(blind, "tiled_rows", fail)
    with pytest.raises(ImageError, match="the estimate failed"):
        upscale_file(source, PASS, kernel=KERNEL, device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["photo.png"]


def test_an_infinite_consistency_is_null_in_the_record(save):
    result = upscale_file(save(np.zeros((40, 48, 3), np.uint8)), INTERPOLATE, device="cpu")
    assert result.record["consistency"]["psnr_db"] is None
    json.loads(result.outputs.record.read_text(encoding="utf-8"), parse_constant=pytest.fail)


# Large photographs.


@pytest.fixture
def small_windows(monkeypatch):
    """Kernels are estimated from 96 px a side; the sizes of windows that are read."""
    window, sizes = FileSource.window, []

    def noted(self, rows, columns):
        sizes.append((rows.stop - rows.start, columns.stop - columns.start))
        return window(self, rows, columns)

    monkeypatch.setattr(FileSource, "window", noted)
    monkeypatch.setattr(crop, "ESTIMATION_SIDE", 96)
    return sizes


def test_the_kernel_of_a_large_photograph_is_estimated_from_windows(save, small_windows):
    result = estimate_file_kernel(save(data.astronaut()[:300, :340]), Settings(estimator="spectral"), device="cpu")
    assert max(rows * columns for rows, columns in small_windows) == 96 * 96
    assert result.record["input"]["width"] == 340


def test_of_a_large_photograph_only_the_region_is_read(save, small_windows):
    source = save(data.astronaut()[:300, :340])
    settings = Settings(estimator="spectral", region=Region(x=40, y=70, width=80, height=90))
    result = estimate_file_kernel(source, settings, device="cpu")
    assert set(small_windows) == {(90, 80)}
    assert result.record["settings"]["region"] == {"x": 40, "y": 70, "width": 80, "height": 90}
    with pytest.raises(ConfigError, match="the region must lie inside the image of 340×300 px"):
        estimate_file_kernel(source, Settings(region=Region(x=300, y=0, width=80, height=80)), overwrite=True)


def read_array(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_sentences_that_differ_in_what_was_measured_are_one_and_those_about_other_bands_are_not():
    said = [
        ("a", "band B4: noise of 2.0 grey levels, see --denoise 0."),
        ("a", "band B8: noise of 9.5 grey levels, see --denoise 0."),
        ("b", "band B4: noise of 1.5 grey levels, see --denoise 0."),
        ("b", "pages 3 and 7: grey."),
        ("c", "pages 3 and 9: grey."),
        ("c", "2 of 12 frames: grey."),
        ("d", "noise of 3 grey levels."),
        ("e", "noise of 3 grey levels."),
        ("e", "noise of 12 grey levels."),
        ("f", "the values of A7 span [-0.25, 3e-05]"),
        ("g", "the values of A7 span [-0.125, 0.5]"),
    ]
    assert grouped(said) == {
        "band B4: noise of 1.5–2.0 grey levels, see --denoise 0.": ("a", "b"),
        "band B8: noise of 9.5 grey levels, see --denoise 0.": ("a",),
        "pages 3 and 7: grey.": ("b",),
        "pages 3 and 9: grey.": ("c",),
        "2 of 12 frames: grey.": ("c",),
        "noise of 3–12 grey levels.": ("d", "e"),
        "the values of A7 span [-0.25, 3e-05] and 1 other range": ("f", "g"),
    }


def test_intervals_are_not_merged_into_one_of_none():
    texts = [
        f"the values span [{low}, {high}]: they are mapped to [0, 1]" for low, high in ((-93, 10), (1, 5e31), (0, 2))
    ]
    merged = grouped(zip("abc", texts, strict=True))
    assert merged == {"the values span [-93, 10] and 2 other ranges: they are mapped to [0, 1]": ("a", "b", "c")}
    assert grouped(zip("ab", texts[:1] * 2, strict=True)) == {texts[0]: ("a", "b")}
