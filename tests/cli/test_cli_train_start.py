"""`blindsr train-start`: from the command line to a file that super-resolution starts from."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from skimage import data

from blindsr.cli.train_start import _config_of, command
from blindsr.errors import ConfigError
from blindsr.zssr.start.leaves import LeavesConfig
from blindsr.zssr.start.weights import SHIPPED, load_start, training_of

SMALL = ["--steps", "3", "--batch", "1", "--channels", "4", "--blocks", "1", "--precision", "fp32", "--threads", "1"]


@pytest.fixture
def folder(tmp_path):
    pictures = tmp_path / "pictures"
    (pictures / "more").mkdir(parents=True)
    Image.fromarray(data.astronaut()[:200, :210]).save(pictures / "a.png")
    Image.fromarray(data.camera()[:230, :200]).save(pictures / "more" / "b.png")
    Image.fromarray(data.camera()[:30, :200]).save(pictures / "small.png")
    return pictures


def train(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_a_start_is_trained_from_own_pictures(folder, tmp_path):
    output = tmp_path / "w.safetensors"
    result = train("-o", output, "--images", folder, *SMALL, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"output": str(output), "steps": 3}
    assert "small.png is left out" in result.stderr
    assert load_start(output).halo > 0
    rows = np.loadtxt(output.with_suffix(".csv"), delimiter=",", skiprows=1)
    assert rows.shape == (3, 3)
    assert not output.with_suffix(".checkpoint").exists()


def test_weights_that_exist_are_kept_unless_forced(folder, tmp_path):
    from blindsr.errors import OutputError

    output = tmp_path / "w.safetensors"
    output.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        train("-o", output, "--images", folder, *SMALL)
    assert output.read_bytes() == b"mine"


def test_a_folder_without_pictures_is_refused(tmp_path):
    from blindsr.errors import ImageError

    with pytest.raises(ImageError, match="found none"):
        train("-o", tmp_path / "w.safetensors", "--images", tmp_path, *SMALL)
    with pytest.raises(ImageError, match="needed a folder"):
        train("-o", tmp_path / "w.safetensors", "--images", tmp_path / "no", *SMALL)


def test_another_suffix_is_refused(tmp_path):
    from blindsr.errors import ConfigError

    with pytest.raises(ConfigError, match="safetensors"):
        train("-o", tmp_path / "w.pt", *SMALL)


def test_quiet_and_verbose_exclude_each_other(tmp_path):
    result = train("-o", tmp_path / "w.safetensors", "-q", "-v", *SMALL)
    assert result.exit_code == 2


def test_a_start_can_be_trained_like_another(folder, tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert train("-o", first, "--images", folder, *SMALL).exit_code == 0
    assert train("-o", second, "--images", folder, "--like", first, "--threads", "1").exit_code == 0
    assert training_of(first) == training_of(second)
    ours, theirs = load_start(first).state_dict(), load_start(second).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    refused = train("-o", tmp_path / "c.safetensors", "--like", "leaves", "--steps", "4")
    assert refused.exit_code == 2
    assert "--like brings its own --steps" in refused.stderr


@pytest.mark.parametrize("name", ["first", "second"])
def test_the_trainings_before_the_last_painted_no_materials(name):
    """Their settings tell nothing of what came later; today's defaults would paint other images."""
    config = _config_of(SHIPPED.with_name(f"{name}.json"))
    assert (config.materials, config.sharpened, config.grain) == (0.0, 0.0, 0.0)
    assert config.leaves == LeavesConfig(size=192, texture=config.texture)


def test_a_training_goes_on_from_a_file(folder, tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert train("-o", first, "--images", folder, *SMALL).exit_code == 0
    deeper = [*SMALL, "--blocks", "2", "--learning-rate", "1e-9"]
    assert train("-o", second, "--images", folder, "--begin", first, *deeper).exit_code == 0
    assert len(training_of(second)["begun_from"]) == 16
    ours, theirs = load_start(second).state_dict(), load_start(first).state_dict()
    name = "blocks.0.first.weight"
    assert torch.allclose(ours[name], theirs[name], atol=1e-3)
    assert len(load_start(second).blocks) == 2
    with pytest.raises(ConfigError, match="1 blocks or fewer"):
        train("-o", tmp_path / "c.safetensors", "--images", folder, "--begin", second, *SMALL)
    lost = train("-o", tmp_path / "c.safetensors", "--images", folder, "--like", second)
    assert lost.exit_code == 2
    assert "give them with --begin" in lost.stderr
    (tmp_path / "x.json").write_text('{"layers": 3}')
    with pytest.raises(ConfigError, match="no settings of a training"):
        train("-o", tmp_path / "c.safetensors", "--images", folder, "--like", tmp_path / "x.json")
