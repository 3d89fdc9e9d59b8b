import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from scipy import ndimage
from skimage import data

from blindsr.errors import ConfigError, ImageError, OutputError
from blindsr.evaluation.dataset import (
    DatasetDegradation,
    by_stem,
    degrade_image,
    kernel_for,
    list_images,
    list_kernels,
    make_dataset,
    match_by_name,
    read_dataset,
)
from blindsr.events import Notice
from blindsr.kernels import Law, box, draw_kernel, gaussian, to_convention
from blindsr.kernels.files import read_kernel


@pytest.fixture
def photos(tmp_path):
    """Two photographs with sides that are no multiples of a scale, and a grey one with 16 bits."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(np.ascontiguousarray(data.astronaut()[20:71, 200:243])).save(folder / "astronaut.png")
    Image.fromarray(np.ascontiguousarray(data.coffee()[90:131, 200:253])).save(folder / "coffee.jpg", quality=95)
    grey = (data.camera()[100:141, 100:137].astype(np.uint16)) * 257
    Image.fromarray(grey).save(folder / "deep.png")
    return folder


def size(path):
    with Image.open(path) as image:
        return image.size


def test_a_test_set_has_its_layout_and_a_correct_manifest(photos, tmp_path):
    made = make_dataset([photos], tmp_path / "set", DatasetDegradation(scale=3, noise_sigma=0.01), seed=4)
    rows = [json.loads(line) for line in (tmp_path / "set" / "manifest.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == ["astronaut", "coffee", "deep"]
    assert list(made.rows) == rows
    for row in rows:
        for role, path in row["files"].items():
            content = (made.folder / path).read_bytes()
            assert hashlib.sha256(content).hexdigest() == row["sha256"][role]
        kernel, notes = read_kernel(made.folder / row["files"]["kernel"], scale=3)
        assert kernel.digest == row["kernel"]["digest"]
        assert notes == ()
    assert rows[0]["degradation"]["noise_sigma"] == 0.01
    assert rows[0]["kernel"]["provenance"]["law"] == "div2krk"
    assert size(made.folder / "hr" / "coffee.png") == (51, 39)
    assert size(made.folder / "lr" / "coffee.png") == (17, 13)
    with Image.open(made.folder / "lr" / "deep.png") as deep:
        assert np.asarray(deep).max() > 255, "16 bits became 8"


def test_the_lr_image_is_what_scipy_makes_of_hr_with_the_kernel(photos, tmp_path):
    from scipy.io import loadmat

    made = make_dataset([photos / "astronaut.png"], tmp_path / "set", kernel_suffix=".mat")
    hr, lr = (np.asarray(Image.open(made.folder / part / "astronaut.png"), float) for part in ("hr", "lr"))
    kernel = loadmat(made.folder / "kernel" / "astronaut.mat")["Kernel"]
    assert kernel.shape == (11, 11)
    expected = np.stack([ndimage.correlate(hr[..., c], kernel, mode="reflect")[::2, ::2] for c in range(3)], -1)
    assert np.abs(lr - expected).max() <= 0.5 + 1e-3  # rounded to 8 bits


def test_an_image_does_not_depend_on_its_neighbours(photos, tmp_path):
    both = make_dataset([photos], tmp_path / "both", DatasetDegradation(noise_sigma=0.02))
    alone = make_dataset([photos / "coffee.jpg"], tmp_path / "alone", DatasetDegradation(noise_sigma=0.02))
    other = make_dataset([photos / "coffee.jpg"], tmp_path / "other", DatasetDegradation(noise_sigma=0.02), seed=1)
    assert both.rows[1] == alone.rows[0]
    assert other.rows[0]["kernel"]["digest"] != alone.rows[0]["kernel"]["digest"]


def test_jpeg_changes_lr_and_nothing_else(photos, tmp_path):
    source = [photos / "astronaut.png"]
    plain = make_dataset(source, tmp_path / "plain").rows[0]["sha256"]
    jpeg = make_dataset(source, tmp_path / "jpeg", DatasetDegradation(jpeg_quality=45)).rows[0]["sha256"]
    assert {role for role in plain if plain[role] != jpeg[role]} == {"lr"}


def test_a_given_kernel_is_used_for_every_image(photos, tmp_path):
    made = make_dataset([photos], tmp_path / "set", DatasetDegradation(blur=gaussian(2.0, 2)))
    assert {row["kernel"]["digest"] for row in made.rows} == {gaussian(2.0, 2).digest}


def test_a_broken_image_is_reported_and_the_others_are_degraded(photos, tmp_path):
    (photos / "broken.png").write_bytes(b"no image")
    events = []
    made = make_dataset([photos], tmp_path / "set", listener=events.append)
    assert [path.name for path, _ in made.failures] == ["broken.png"]
    assert len(made.rows) == 3
    assert any(isinstance(event, Notice) and "broken.png was left out" in event.message for event in events)


def test_sixteen_bits_and_jpeg_do_not_go_together(photos, tmp_path):
    made = make_dataset([photos / "deep.png"], tmp_path / "set", DatasetDegradation(jpeg_quality=45))
    assert "JPEG compression needs a grey or RGB image with 8 bits" in made.failures[0][1]


def test_an_existing_set_is_replaced_only_if_asked(photos, tmp_path):
    make_dataset([photos], tmp_path / "set")
    with pytest.raises(OutputError, match="already contains a test set; choose another folder"):
        make_dataset([photos], tmp_path / "set")
    again = make_dataset([photos], tmp_path / "set", DatasetDegradation(blur=Law(name="defocus")), overwrite=True)
    assert again.rows[0]["kernel"]["provenance"]["law"] == "defocus"


def test_two_images_of_the_same_name_are_refused(photos, tmp_path):
    (photos / "coffee.png").write_bytes((photos / "astronaut.png").read_bytes())
    with pytest.raises(ImageError, match=r"coffee\.jpg and coffee\.png have the same name"):
        make_dataset([photos], tmp_path / "set")


def test_a_negative_seed_is_refused(photos, tmp_path):
    with pytest.raises(ConfigError, match="seed must be 0 or more, got -1"):
        make_dataset([photos], tmp_path / "set", seed=-1)


def test_the_images_of_a_folder_are_listed_in_order_without_plots_of_kernels(tmp_path):
    for name in ("b.png", "a.JPG", "b.kernel.png", "notes.txt", "c.npz"):
        (tmp_path / name).touch()
    assert [p.name for p in list_images([tmp_path])] == ["a.JPG", "b.png"]
    assert [p.name for p in list_kernels(tmp_path)] == ["c.npz"]


def test_hidden_files_of_a_folder_are_none_of_its_images(photos):
    (photos / "._coffee.jpg").write_bytes(b"Mac OS X")
    assert [path.name for path in list_images([photos])] == ["astronaut.png", "coffee.jpg", "deep.png"]


def test_an_image_with_missing_data_is_left_out(photos, tmp_path):
    heights = np.linspace(-30, 900, 40 * 40, dtype=np.float32).reshape(40, 40)
    heights[3:6, 3:8] = np.nan
    tifffile.imwrite(photos / "heights.tif", heights)
    made = make_dataset([photos], tmp_path / "set")
    assert len(made.rows) == 3
    assert made.failures[0][1] == "it has no data in 15 of its pixels; use a part of it that is complete."


def test_a_missing_path_and_a_folder_without_images_are_refused(tmp_path):
    with pytest.raises(ImageError, match="does not exist"):
        list_images([tmp_path / "none"])
    with pytest.raises(ImageError, match="there is no image file"):
        list_images([tmp_path])


def test_a_result_belongs_to_the_longest_name_that_it_begins_with():
    truths = by_stem([Path("a.png"), Path("a_b.png"), Path("a1.png")])
    results = [Path(n) for n in ("a_x2.png", "a_b_x2.png", "a_b.png", "a12.png", "a1-sr.png", "z.png")]
    assert {name: path.name for name, path in match_by_name(truths, results).items()} == {
        "a": "a_x2.png",
        "a_b": "a_b.png",
        "a1": "a1-sr.png",
    }


def test_a_test_set_is_read_with_its_kernels(photos, tmp_path):
    make_dataset([photos], tmp_path)
    images = read_dataset(tmp_path)
    assert [image.name for image in images] == ["astronaut", "coffee", "deep"]
    assert images[1].kernel == tmp_path / "kernel" / "coffee.npz"
    assert [image.name for image in read_dataset(tmp_path, names=("deep", "coffee"))] == ["coffee", "deep"]
    assert [image.name for image in read_dataset(tmp_path, limit=1)] == ["astronaut"]
    (tmp_path / "kernel" / "coffee.npz").unlink()
    assert read_dataset(tmp_path)[1].kernel is None
    with pytest.raises(ImageError, match="no LR image for moon"):
        read_dataset(tmp_path, names=("moon",))


@pytest.fixture(scope="module")
def hr():
    """A photograph, (1, 3, 74, 62), float64."""
    return torch.from_numpy(data.astronaut()[40:114, 180:242] / 255).permute(2, 0, 1)[None].contiguous()


def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize(("law", "scale"), [("div2krk", 2), ("public-generator", 2), ("motion", 2), ("div2krk", 4)])
@pytest.mark.parametrize("phase", ["centred", "corner"])
def test_the_image_model_equals_scipys_in_kernelgans_convention(hr, law, scale, phase):
    hr = hr[..., : 74 - 74 % scale, : 62 - 62 % scale]
    kernel = draw_kernel(Law(name=law), scale, rng(), phase=phase)
    lr = degrade_image(hr, kernel, DatasetDegradation(scale=scale), rng())
    weights = to_convention(kernel, "kernelgan")
    for ours, plane in zip(lr[0].numpy(), hr[0].numpy(), strict=True):
        scipys = ndimage.correlate(plane, weights, mode="reflect")[::scale, ::scale]
        assert np.abs(ours - scipys).max() < 1e-12


def test_the_two_phases_look_half_a_pixel_apart():
    # On a ramp, blurring does nothing and a shift is a number: 62 grey levels over 62 px.
    ramp = torch.linspace(0, 1, 62, dtype=torch.float64).expand(1, 1, 60, 62).contiguous()
    law = Law.parse("gaussian:1.2")
    centred, corner = (
        degrade_image(ramp, draw_kernel(law, 2, rng(), phase=phase), DatasetDegradation(), rng())[0, 0, 15, 10].item()
        for phase in ("centred", "corner")
    )
    assert centred * 61 == pytest.approx(20.5, abs=1e-6)
    assert corner * 61 == pytest.approx(20.0, abs=1e-6)


def test_noise_has_its_sigma_and_speckle_grows_with_the_light():
    dark, bright = (torch.full((1, 1, 400, 400), v, dtype=torch.float64) for v in (0.2, 0.6))
    for image, value in ((dark, 0.2), (bright, 0.6)):
        noisy = degrade_image(image, box(2), DatasetDegradation(noise_sigma=0.03), rng())
        assert float(noisy.std()) == pytest.approx(0.03, rel=0.02)
        speckled = degrade_image(image, box(2), DatasetDegradation(speckle_sigma=0.05), rng())
        assert float(speckled.std()) == pytest.approx(0.05 * value, rel=0.02)


def test_the_result_stays_in_range_and_the_input_as_it_was(hr):
    before = hr.clone()
    lr = degrade_image(hr, box(2), DatasetDegradation(noise_sigma=0.5), rng())
    assert torch.equal(hr, before)
    assert float(lr.min()) == 0
    assert float(lr.max()) == 1


def test_the_same_seed_gives_the_same_bits(hr):
    degradation = DatasetDegradation(noise_sigma=0.1, speckle_sigma=0.1)
    first, again, other = (degrade_image(hr, box(2), degradation, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_given_kernel_is_used_as_it_is():
    kernel = gaussian(2.0, 2)
    assert kernel_for(DatasetDegradation(blur=kernel), rng()) is kernel


def test_sides_that_are_no_multiples_are_refused(hr):
    with pytest.raises(ImageError, match="multiples of the scale 2, got 73×62; crop it"):
        degrade_image(hr[..., :73, :], box(2), DatasetDegradation(), rng())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scale": 1}, "scale must be 2, 3 or 4"),
        ({"noise_sigma": -0.1}, r"--noise \(noise_sigma=\) must be in \[0, 1\].*, got -0.1; 4 grey levels are 0.0157"),
        ({"speckle_sigma": float("nan")}, r"--speckle \(speckle_sigma=\) must be in"),
        ({"jpeg_quality": 0}, "jpeg_quality must be 1 to 100"),
        ({"blur": gaussian(2.0, 3)}, "the kernel is for scale 3"),
        ({"blur": gaussian(2.0, 2), "phase": "corner"}, "keeps its own position"),
    ],
)
def test_a_degradation_out_of_bounds_is_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        DatasetDegradation(**fields)
