"""Training, resuming, and the files of a training."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from blindsr.errors import ConfigError, DivergenceError, OutputError
from blindsr.events import StageDone, StepDone
from blindsr.kernels import bicubic
from blindsr.training.dataset import DeadLeavesCache
from blindsr.training.dead_leaves import DeadLeavesConfig
from blindsr.training.degradations import KernelBank
from blindsr.training.train import TrainingConfig, check_checkpoint, draw_batch, learning_rate, train
from blindsr.upscalers.pretrained.network import ConditionedNetwork
from blindsr.upscalers.pretrained.weights import BUNDLED, load_network, save_weights, training_settings

TINY = TrainingConfig(
    channels=8, blocks=1, steps=8, anneal_from=4, warm_up=2, batch=2, patch=20, border=2,
    image_count=32, initial_image_count=32, kernel_count=6, report_every=2, precision="fp32", jpeg_share=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return DeadLeavesCache(tmp_path_factory.mktemp("leaves"), 0, DeadLeavesConfig(size=80))


def test_an_interrupted_training_ends_in_the_same_bits(images, tmp_path):
    straight = train(images, TINY)
    train(images, TINY, checkpoint=tmp_path / "c", stop_at=5)
    resumed = train(images, TINY, checkpoint=tmp_path / "c")
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_another_seed_trains_other_weights(images):
    first, other = train(images, TINY), train(images, replace(TINY, seed=1))
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_training_lowers_the_loss(images):
    events = []
    config = replace(TINY, steps=60, anneal_from=40, report_every=20, learning_rate=2e-3)
    config = replace(config, scales=(2,), scale_shares=(1.0,))
    train(images, config, listener=events.append)
    losses = [e.values["loss"] for e in events if isinstance(e, StepDone) and e.values]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert isinstance(events[-1], StageDone)


def test_a_batch_depends_on_seed_and_step_alone(images):
    first, second, other = (draw_batch(images, KernelBank(0, 6), step, TINY) for step in (3, 3, 4))
    assert torch.equal(first.lr, second.lr)
    assert torch.equal(first.linear, second.linear)
    assert not torch.equal(first.hr.mean(), other.hr.mean())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_batch_has_pairs_of_one_scale_with_matching_sizes(images, scale):
    config = replace(TINY, scales=(scale,), scale_shares=(1.0,))
    batch = draw_batch(images, KernelBank(0, 6), 1, config)
    inner = config.patch - 2 * config.border
    assert batch.scale == scale
    assert batch.lr.shape == (2, 1, inner, inner)
    assert batch.hr.shape == (2, 1, inner * scale, inner * scale)
    # The pair is aligned: the Wiener image is nearer to the ground truth than to the ground truth shifted by one pixel.
    linear = batch.linear.mean(1, keepdim=True)
    error = (linear - batch.hr).square().mean()
    assert error < (linear - batch.hr.roll(1, -1)).square().mean()
    assert error < (linear - batch.hr.roll(1, -2)).square().mean()


def test_the_rate_rises_stays_and_falls_to_zero():
    config = TrainingConfig(steps=100, anneal_from=60, warm_up=10, learning_rate=1.0)
    assert learning_rate(5, config) == 0.5
    assert learning_rate(10, config) == learning_rate(60, config) == 1.0
    assert learning_rate(80, config) == pytest.approx(0.5)
    assert learning_rate(100, config) == pytest.approx(0.0)


def test_patches_are_compressed_and_stay_aligned(images):
    config = replace(TINY, noisy_share=1.0, max_noise=5.0, jpeg_share=1.0, patch=16, batch=4)
    batch, clean = (
        draw_batch(images, KernelBank(0, 6), 1, c) for c in (config, replace(config, noisy_share=0.0, jpeg_share=0.0))
    )
    assert torch.equal(batch.hr, clean.hr)
    error = (batch.lr - clean.lr).square().mean().sqrt()
    assert 0.5 / 255 < error < 20 / 255


def test_a_grown_network_predicts_as_the_smaller_one_and_trains(images):
    smaller = ConditionedNetwork(channels=8, blocks=1)
    smaller.initialise(torch.Generator().manual_seed(5))
    grown = ConditionedNetwork(channels=8, blocks=3)
    grown.initialise(torch.Generator().manual_seed(6))
    image, kernel = torch.rand(1, 1, 20, 24), bicubic(2).tensor()
    assert not torch.allclose(grown(image, kernel, 2), smaller(image, kernel, 2))
    grown.grow_from(smaller)
    assert torch.allclose(grown(image, kernel, 2), smaller(image, kernel, 2), atol=1e-6)
    config = replace(TINY, blocks=3)
    trained = train(images, config, initial=smaller)
    assert trained["blocks.2.second.weight"].abs().max() > 0
    continued, random = trained["blocks.0.first.weight"], train(images, config)["blocks.0.first.weight"]
    initial = smaller.state_dict()["blocks.0.first.weight"]
    assert (continued - initial).abs().mean() < 0.1 * (random - initial).abs().mean()


@pytest.mark.parametrize("other", [{"channels": 9}, {"blocks": 4}, {"scales": (2, 3)}], ids=str)
def test_initial_weights_that_do_not_fit_raise(other):
    with pytest.raises(ConfigError, match="same width and scales"):
        ConditionedNetwork(channels=8, blocks=3).grow_from(ConditionedNetwork(**{"channels": 8, "blocks": 3} | other))


def test_settings_of_a_training_can_be_a_file_of_their_own(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(asdict(TINY)))
    assert training_settings(path)["channels"] == 8
    for text in ("[1]", "{"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="settings of a training"):
            training_settings(path)


def test_a_diverging_training_raises(images):
    with pytest.raises(DivergenceError, match="learning rate"):
        train(images, replace(TINY, learning_rate=1e30, max_gradient_norm=1e30, report_every=10**6))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"scales": (2,)}, "scale_shares"),
        ({"anneal_from": 100_000}, "anneal_from"),
        ({"patch": 8}, "patch must be over"),
        ({"patch": 44}, "blocks of JPEG"),
    ],
    ids=str,
)
def test_invalid_settings_raise(fault, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**fault)


@pytest.mark.parametrize("name", ["first", "second"])
def test_settings_with_the_names_of_earlier_versions_are_read(name):
    stored = training_settings(BUNDLED.with_name(f"{name}.json"))
    config = TrainingConfig.from_stored(stored)
    for new, old in [
        ("image_count", "images"), ("kernel_error", "doubt"), ("kernel_error_share", "doubted"),
        ("kernel_error_from", "doubt_from"), ("max_noise", "largest_noise"), ("jpeg_share", "jpeg"),
        ("average_decay", "average"), ("max_gradient_norm", "largest_gradient"), ("texture_contrast", "texture"),
    ]:  # fmt: skip
        assert getattr(config, new) == stored[old]
    assert config.scales == (2, 3, 4)
    assert config.initial_digest == stored.get("begun_from", "")
    # These trainings predate the following settings; today's defaults would synthesise other images.
    assert (config.varied_textures, config.sharpening, config.image_noise) == (0.0, 0.0, 0.0)


def test_the_metadata_of_the_bundled_weights_equals_their_settings_file():
    from_weights = TrainingConfig.from_stored(training_settings())
    assert from_weights == TrainingConfig.from_stored(training_settings(BUNDLED.with_suffix(".json")))


def test_stored_settings_survive_a_round_trip_through_json():
    stored = json.loads(json.dumps({**asdict(TINY), "image_source": "folder"}))
    assert TrainingConfig.from_stored(stored) == replace(TINY, image_source="folder")
    with pytest.raises(ConfigError, match="'layers'"):
        TrainingConfig.from_stored({**stored, "layers": 3})


def test_a_checkpoint_with_the_names_of_earlier_versions_is_resumed(images, tmp_path):
    path = tmp_path / "c"
    train(images, TINY, checkpoint=path, stop_at=2)
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    settings = json.loads(metadata["config"])
    settings["jpeg"], settings["kernels"] = settings.pop("jpeg_share"), settings.pop("kernel_count")
    save_file(tensors, path, {**metadata, "config": json.dumps(settings)})
    check_checkpoint(path, TINY)
    with pytest.raises(ConfigError, match="kernel_count = 6"):
        check_checkpoint(path, replace(TINY, kernel_count=7))


def test_a_checkpoint_must_have_the_same_settings_except_for_the_length(images, tmp_path):
    path = tmp_path / "c"
    check_checkpoint(path, TINY)
    train(images, TINY, checkpoint=path, stop_at=2)
    check_checkpoint(path, replace(TINY, steps=50, anneal_from=20))
    with pytest.raises(ConfigError, match="channels = 8"):
        check_checkpoint(path, replace(TINY, channels=9))
    with pytest.raises(ConfigError, match="image_source = dead leaves, now it is folder"):
        check_checkpoint(path, replace(TINY, image_source="folder"))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match="damaged"):
        check_checkpoint(path, TINY)


def test_weights_are_stored_in_half_precision(images, tmp_path):
    weights = train(images, TINY)
    save_weights(tmp_path / "w.safetensors", dict(weights), asdict(TINY))
    network = load_network(tmp_path / "w.safetensors")
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter.detach(), weights[name].half().float())
    for scale in (2, 3, 4):
        assert network(torch.rand(2, 3, 17, 23), bicubic(scale).tensor(), scale).shape == (2, 3, 17 * scale, 23 * scale)


def test_files_that_are_not_weights_raise(images, tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(ConfigError, match="safetensors file"):
        load_network(path)
    save_weights(path, dict(train(images, replace(TINY, steps=5))), asdict(TINY))
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    with pytest.raises(ConfigError, match="safetensors file"):
        load_network(path)
    save_weights(path, {"x": torch.zeros(2)}, asdict(TINY))
    with pytest.raises(ConfigError, match="do not fit"):
        load_network(path)
    save_file({"x": torch.zeros(2)}, path, {"format": "another"})
    with pytest.raises(ConfigError, match="format"):
        load_network(path)


def test_weights_cannot_be_written_into_a_missing_folder(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        save_weights(tmp_path / "no" / "w.safetensors", {"x": torch.zeros(1)}, {})


def test_the_bundled_weights_are_small_and_support_every_scale():
    assert BUNDLED.stat().st_size < 10_000_000
    network = load_network()
    for scale in (2, 3, 4):
        network.require_scale(scale)
    with pytest.raises(ConfigError, match="got ×5"):
        network.require_scale(5)
