"""Networks of other programs: safe loading, the interpolation of weights, tiles, the kernel."""

import builtins
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from blindsr.errors import ConfigError
from blindsr.events import ignore
from blindsr.kernels import bicubic, gaussian
from blindsr.ops import degrade, imresize
from blindsr.ops.windows import TensorSource
from blindsr.settings import Settings
from blindsr.upscalers.base import Degradation
from blindsr.upscalers.checkpoint import CheckpointConfig, CheckpointUpscaler, load_network, load_state
from blindsr.upscalers.tiling import tiled_rows
from tests.images import photograph, psnr


def compact(scale=2, *, features=8, seed=0, size=0.08):
    """Weights of a small SRVGGNetCompact: repetition of pixels plus a random residual."""
    generator = torch.Generator().manual_seed(seed)

    def convolution(name, outputs, inputs):
        weight = size * torch.randn(outputs, inputs, 3, 3, generator=generator)
        return {f"{name}.weight": weight, f"{name}.bias": torch.zeros(outputs)}

    state = convolution("body.0", features, 3) | {"body.1.weight": torch.full((features,), 0.2)}
    state |= convolution("body.2", features, features) | {"body.3.weight": torch.full((features,), 0.2)}
    return state | convolution("body.4", 3 * scale**2, features)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "network.safetensors"
    save_file(compact(), path)
    return path


@pytest.fixture
def _spandrel():
    pytest.importorskip("einops", reason="needs blindsr[networks]")
    from importlib.util import find_spec

    if find_spec("spandrel") is None:
        pytest.skip("needs blindsr[networks]")


def fitted(lr, kernel, config, **degradation):
    method = CheckpointUpscaler(config)
    return method.fit(TensorSource(lr), Degradation(kernel=kernel, **degradation), listener=ignore)


def test_a_checkpoint_is_read_from_safetensors_and_from_a_pickle_of_tensors(tmp_path, file):
    torch.save({"params_ema": compact()}, tmp_path / "network.pth")
    assert load_state(file).keys() == compact().keys()
    assert load_state(tmp_path / "network.pth")["params_ema"].keys() == compact().keys()


class _Code:
    def __reduce__(self):
        return (print, ("code ran",))


def test_a_pickle_that_runs_code_is_refused(tmp_path, capsys):
    torch.save({"weight": _Code()}, tmp_path / "evil.pth")
    with pytest.raises(ConfigError, match=r"evil.pth holds more.*safetensors"):
        load_state(tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["missing.safetensors", "missing.pth", "damaged.safetensors", "damaged.pth", "x.onnx"])
def test_a_file_that_is_no_checkpoint_is_refused_by_its_name(tmp_path, name):
    if name.startswith("damaged"):
        (tmp_path / name).write_bytes(b"no tensors")
    with pytest.raises(ConfigError, match=name):
        load_state(tmp_path / name)


def test_without_spandrel_the_message_names_the_extra(file, monkeypatch):
    original = builtins.__import__

    def refuse(name, *rest, **options):
        if name == "spandrel":
            raise ImportError("No module named 'spandrel'")
        return original(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigError, match=r"pip install 'blindsr\[networks\]'"):
        load_network(file)


def test_a_name_with_a_file_is_the_upscaler_with_its_setting():
    settings = Settings(upscaler="checkpoint:some/network.pth")
    assert settings.upscaler == "checkpoint"
    assert settings.create_upscaler().config.file.as_posix() == "some/network.pth"
    mixed = replace(settings, configs={"checkpoint": CheckpointConfig(second_share=0.3)}, upscaler="checkpoint:a.pth")
    assert (mixed.create_upscaler().config.file.name, mixed.create_upscaler().config.second_share) == ("a.pth", 0.3)
    with pytest.raises(ConfigError, match="checkpoint:FILE"):
        CheckpointUpscaler().check()
    with pytest.raises(ConfigError, match="upscaler must be one of"):
        Settings(upscaler="zssr:file")


@pytest.mark.parametrize(
    ("field", "value"), [("second_share", 1.5), ("correction", "other"), ("halo", -1), ("max_tile", 4)]
)
def test_settings_out_of_bounds_are_refused(field, value):
    with pytest.raises(ConfigError, match=f"checkpoint.{field}|max_tile"):
        CheckpointConfig(**{field: value})


@pytest.mark.usefixtures("_spandrel")
def test_the_network_of_a_checkpoint_is_applied_and_tiles_equal_the_whole(file):
    lr = photograph(70, 50)
    before = lr.clone()
    config = CheckpointConfig(file=file)
    whole = fitted(lr, bicubic(2), config).predict(lr)
    assert whole.shape == (1, 3, 140, 100)
    assert 30 < psnr(whole, imresize(lr, 2, method="nearest")) < 60  # the random residual is small, and there
    tiled = fitted(lr, bicubic(2), replace(config, max_tile=24)).predict(lr)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-6)
    model = fitted(lr, gaussian(1.2, 2), config)
    parts = [torch.cat(list(tiled_rows(model, TensorSource(lr), tile=tile)), -2) for tile in (None, 32)]
    torch.testing.assert_close(parts[0], parts[1], rtol=0, atol=2e-3)
    assert torch.equal(lr, before)
    assert "torchvision" not in sys.modules or hasattr(sys.modules["torchvision"], "__version__")


@pytest.mark.usefixtures("_spandrel")
def test_a_kernel_that_is_not_bicubic_is_corrected_for(file):
    hr, kernel = photograph(160, 160, name="astronaut", top=20, left=60), gaussian(1.4, 2)
    lr = degrade(hr, kernel.tensor(), 2)
    config = CheckpointConfig(file=file)
    corrected, plain = (
        psnr(fitted(lr, kernel, replace(config, correction=method)).predict(lr), hr) for method in ("natural", "none")
    )
    # A network that was trained on bicubic images repeats what it is given: here, pixels.
    assert corrected > plain + 0.5


@pytest.mark.usefixtures("_spandrel")
def test_weights_of_two_checkpoints_are_interpolated(tmp_path, file):
    second = tmp_path / "second.safetensors"
    save_file(compact(seed=1), second)
    state = load_network(file, second, 0.25).model.state_dict()
    expected = 0.75 * compact()["body.2.weight"] + 0.25 * compact(seed=1)["body.2.weight"]
    torch.testing.assert_close(state["body.2.weight"], expected)
    save_file(compact(features=4), second)
    with pytest.raises(ConfigError, match="two checkpoints must be of one network"):
        load_network(file, second, 0.25)


@pytest.mark.usefixtures("_spandrel")
@pytest.mark.parametrize("bands", [1, 2])
def test_bands_that_are_not_rgb_pass_one_by_one(file, bands):
    lr = photograph(24, 20)[:, :bands]
    sr = fitted(lr, bicubic(2), CheckpointConfig(file=file)).predict(lr)
    grey = lr[:, :1].expand(-1, 3, -1, -1)
    expected = fitted(grey, bicubic(2), CheckpointConfig(file=file)).predict(grey).mean(1)
    torch.testing.assert_close(sr[:, 0], expected)


@pytest.mark.usefixtures("_spandrel")
def test_another_scale_and_unknown_networks_are_refused(tmp_path, file):
    lr = photograph(24, 20)
    with pytest.raises(ConfigError, match="enlarges ×2, got ×4"):
        fitted(lr, gaussian(2.0, 4), CheckpointConfig(file=file))
    save_file({"some.weight": torch.zeros(3)}, tmp_path / "unknown.safetensors")
    with pytest.raises(ConfigError, match="none of the architectures"):
        load_network(tmp_path / "unknown.safetensors")
    save_file(compact(scale=1), tmp_path / "one.safetensors")
    with pytest.raises(ConfigError, match="needs a network that enlarges"):
        load_network(tmp_path / "one.safetensors")


@pytest.mark.usefixtures("_spandrel")
def test_loading_leaves_the_global_random_generator_alone(file):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_network(file)
    assert torch.equal(torch.rand(3), expected)
