"""`blindsr train`: from the command line to the weights of the pretrained network."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from skimage import data

from blindsr.cli.commands.train import train as command
from blindsr.errors import ConfigError, ImageError, OutputError
from blindsr.training.train import TrainingConfig
from blindsr.upscalers.pretrained.weights import load_network, training_settings

# Without dead leaves, which take time to synthesise.
PHOTOGRAPHS = ["--leaves", "0"]
SMALL = ["--steps", "3", "--batch", "1", "--channels", "8", "--blocks", "1", "--precision", "fp32", "--threads", "1"]


@pytest.fixture
def folder(tmp_path):
    pictures = tmp_path / "pictures"
    (pictures / "more").mkdir(parents=True)
    Image.fromarray(data.astronaut()[:240, :250]).save(pictures / "a.png")
    Image.fromarray(data.camera()[:230, :240]).save(pictures / "more" / "b.png")
    Image.fromarray(data.camera()[:30, :200]).save(pictures / "small.png")
    return pictures


def train(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_weights_are_trained_on_own_pictures(folder, tmp_path):
    output = tmp_path / "w.safetensors"
    result = train("-o", output, "--images", folder, *PHOTOGRAPHS, *SMALL, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == {"output": str(output), "steps": 3}
    assert "small.png is skipped: training patches need 224 px" in result.stderr
    assert load_network(output).halo > 0
    rows = np.loadtxt(output.with_suffix(".csv"), delimiter=",", skiprows=1)
    assert rows.shape == (3, 6)
    assert training_settings(output)["leaves_share"] == 0
    assert not output.with_suffix(".checkpoint").exists()


def test_weights_that_exist_are_kept_unless_forced(folder, tmp_path):
    output = tmp_path / "w.safetensors"
    output.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        train("-o", output, "--images", folder, *PHOTOGRAPHS, *SMALL)
    assert output.read_bytes() == b"mine"


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(ImageError, match=r"training needs photographs of 224 px a side or more, .* has none"):
        train("-o", tmp_path / "w.safetensors", "--images", tmp_path, *PHOTOGRAPHS, *SMALL)
    with pytest.raises(ImageError, match="training needs a folder of photographs"):
        train("-o", tmp_path / "w.safetensors", "--images", tmp_path / "no", *PHOTOGRAPHS, *SMALL)


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="safetensors"):
        train("-o", tmp_path / "w.pt", *SMALL)


def test_quiet_and_verbose_exclude_each_other(tmp_path):
    result = train("-o", tmp_path / "w.safetensors", "-q", "-v", *SMALL)
    assert result.exit_code == 2


def test_a_training_can_have_the_settings_of_another(folder, tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert train("-o", first, "--images", folder, *PHOTOGRAPHS, *SMALL).exit_code == 0
    assert train("-o", second, "--images", folder, "--like", first, "--threads", "1").exit_code == 0
    assert training_settings(first) == training_settings(second)
    ours, theirs = load_network(first).state_dict(), load_network(second).state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    refused = train("-o", tmp_path / "c.safetensors", "--like", "pretrained", "--steps", "4")
    assert refused.exit_code == 2
    assert "--like already fixes --steps; omit --steps or --like." in refused.stderr


def test_dead_leaves_alone_are_synthesised_beside_the_weights(tmp_path):
    settings = TrainingConfig(
        channels=8, blocks=1, steps=2, anneal_from=1, batch=1, patch=16, border=2, scales=(2,), scale_shares=(1.0,),
        leaves_share=1.0, leaves_count=4, leaves_size=32, precision="fp32",
    )  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(asdict(settings)))
    output = tmp_path / "w.safetensors"
    assert train("-o", output, "--like", tmp_path / "x.json", "--threads", "1").exit_code == 0
    assert TrainingConfig.from_stored(training_settings(output)) == settings
    assert len(list(output.with_suffix(".leaves").iterdir())) == 1


def test_photographs_and_the_share_of_dead_leaves_must_fit(folder, tmp_path):
    output = tmp_path / "w.safetensors"
    with pytest.raises(ConfigError, match=r"leaves_share of 0\.3 a training needs photographs: add --images"):
        train("-o", output, "--leaves", "0.3", *SMALL)
    with pytest.raises(ConfigError, match="leave --images out"):
        train("-o", output, "--images", folder, "--leaves", "1", *SMALL)


def test_a_training_continues_from_a_file(folder, tmp_path):
    first, second = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert train("-o", first, "--images", folder, *PHOTOGRAPHS, *SMALL).exit_code == 0
    deeper = [*SMALL, "--blocks", "2", "--learning-rate", "1e-9"]
    assert train("-o", second, "--images", folder, *PHOTOGRAPHS, "--init", first, *deeper).exit_code == 0
    assert len(training_settings(second)["initial_digest"]) == 16
    ours, theirs = load_network(second).state_dict(), load_network(first).state_dict()
    name = "blocks.0.first.weight"
    assert torch.allclose(ours[name], theirs[name], atol=1e-3)
    assert load_network(second).config.blocks == 2
    with pytest.raises(ConfigError, match="1 blocks or fewer"):
        train("-o", tmp_path / "c.safetensors", "--images", folder, *PHOTOGRAPHS, "--init", second, *SMALL)
    lost = train("-o", tmp_path / "c.safetensors", "--images", folder, "--like", second)
    assert lost.exit_code == 2
    assert "give them with --init" in lost.stderr
    (tmp_path / "x.json").write_text('{"layers": 3}')
    with pytest.raises(ConfigError, match="not the settings of a training"):
        train("-o", tmp_path / "c.safetensors", "--images", folder, "--like", tmp_path / "x.json")
