import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from skimage import data

from blindsr.errors import ConfigError, ImageError, OutputError
from blindsr.events import Notice
from blindsr.kernels import gaussian
from blindsr.kernels.files import read_kernel
from blindsr.pipelines.simulate import simulate_set
from blindsr.simulation import Degradation, Law


@pytest.fixture
def photos(tmp_path):
    """Two photographs whose sides are no multiples of anything, and one that is gray of 16 bits."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(np.ascontiguousarray(data.astronaut()[20:71, 200:243])).save(folder / "astronaut.png")
    Image.fromarray(np.ascontiguousarray(data.coffee()[90:131, 200:253])).save(folder / "coffee.jpg", quality=95)
    gray = (data.camera()[100:141, 100:137].astype(np.uint16)) * 257
    Image.fromarray(gray).save(folder / "deep.png")
    return folder


def size(path):
    with Image.open(path) as image:
        return image.size


def test_a_set_has_the_layout_and_a_manifest_that_holds(photos, tmp_path):
    made = simulate_set([photos], tmp_path / "set", Degradation(scale=3, noise_sigma=0.01), seed=4)
    rows = [json.loads(line) for line in (tmp_path / "set" / "manifest.jsonl").read_text().splitlines()]
    assert [row["name"] for row in rows] == ["astronaut", "coffee", "deep"]
    assert list(made.rows) == rows
    for row in rows:
        for role, path in row["files"].items():
            content = (made.folder / path).read_bytes()
            assert hashlib.sha256(content).hexdigest() == row["sha256"][role]
        kernel, notes = read_kernel(made.folder / row["files"]["kernel"], scale=3)
        assert kernel.digest == row["kernel"]["digest"]
        assert "own convention" in notes[0]
    assert rows[0]["degradation"]["noise_sigma"] == 0.01
    assert rows[0]["kernel"]["provenance"]["law"] == "div2krk"
    assert size(made.folder / "hr" / "coffee.png") == (51, 39)
    assert size(made.folder / "lr" / "coffee.png") == (17, 13)
    with Image.open(made.folder / "lr" / "deep.png") as deep:
        assert np.asarray(deep).max() > 255, "16 bits came out as 8"


def test_the_lr_image_is_what_scipy_makes_of_hr_with_the_kernel(photos, tmp_path):
    from scipy import ndimage
    from scipy.io import loadmat

    made = simulate_set([photos / "astronaut.png"], tmp_path / "set", kernel_suffix=".mat")
    hr, lr = (np.asarray(Image.open(made.folder / part / "astronaut.png"), float) for part in ("hr", "lr"))
    kernel = loadmat(made.folder / "kernel" / "astronaut.mat")["Kernel"]
    assert kernel.shape == (11, 11)
    expected = np.stack([ndimage.correlate(hr[..., c], kernel, mode="reflect")[::2, ::2] for c in range(3)], -1)
    assert np.abs(lr - expected).max() <= 0.5 + 1e-3  # rounded to 8 bits


def test_an_image_does_not_depend_on_its_neighbours(photos, tmp_path):
    both = simulate_set([photos], tmp_path / "both", Degradation(noise_sigma=0.02))
    alone = simulate_set([photos / "coffee.jpg"], tmp_path / "alone", Degradation(noise_sigma=0.02))
    other = simulate_set([photos / "coffee.jpg"], tmp_path / "other", Degradation(noise_sigma=0.02), seed=1)
    assert both.rows[1] == alone.rows[0]
    assert other.rows[0]["kernel"]["digest"] != alone.rows[0]["kernel"]["digest"]


def test_jpeg_changes_lr_and_nothing_else(photos, tmp_path):
    source = [photos / "astronaut.png"]
    plain = simulate_set(source, tmp_path / "plain").rows[0]["sha256"]
    jpeg = simulate_set(source, tmp_path / "jpeg", Degradation(jpeg_quality=45)).rows[0]["sha256"]
    assert {role for role in plain if plain[role] != jpeg[role]} == {"lr"}


def test_a_given_kernel_is_every_images(photos, tmp_path):
    made = simulate_set([photos], tmp_path / "set", Degradation(blur=gaussian(2.0, 2)))
    assert {row["kernel"]["digest"] for row in made.rows} == {gaussian(2.0, 2).digest}


def test_a_broken_picture_is_said_and_the_others_are_made(photos, tmp_path):
    (photos / "broken.png").write_bytes(b"no picture")
    said = []
    made = simulate_set([photos], tmp_path / "set", listener=said.append)
    assert [path.name for path, _ in made.failures] == ["broken.png"]
    assert len(made.rows) == 3
    assert any(isinstance(event, Notice) and "broken.png was left out" in event.message for event in said)


def test_sixteen_bits_and_jpeg_do_not_go_together(photos, tmp_path):
    made = simulate_set([photos / "deep.png"], tmp_path / "set", Degradation(jpeg_quality=45))
    assert "JPEG holds gray or RGB of 8 bits" in made.failures[0][1]


def test_a_set_that_exists_is_kept_unless_asked(photos, tmp_path):
    simulate_set([photos], tmp_path / "set")
    with pytest.raises(OutputError, match="holds a set already; choose another folder"):
        simulate_set([photos], tmp_path / "set")
    again = simulate_set([photos], tmp_path / "set", Degradation(blur=Law(name="defocus")), overwrite=True)
    assert again.rows[0]["kernel"]["provenance"]["law"] == "defocus"


def test_two_pictures_of_one_name_are_refused(photos, tmp_path):
    (photos / "coffee.png").write_bytes((photos / "astronaut.png").read_bytes())
    with pytest.raises(ImageError, match=r"coffee\.jpg and coffee\.png have one name"):
        simulate_set([photos], tmp_path / "set")


def test_a_negative_seed_is_refused(photos, tmp_path):
    with pytest.raises(ConfigError, match="seed must be 0 or more, got -1"):
        simulate_set([photos], tmp_path / "set", seed=-1)
