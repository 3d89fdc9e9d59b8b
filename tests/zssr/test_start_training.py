"""Training a start, resuming it, and its files."""

import json
from dataclasses import asdict, replace

import pytest
import torch

from blindsr.errors import ConfigError, DivergenceError, OutputError
from blindsr.events import StageDone, StepDone
from blindsr.kernels import bicubic
from blindsr.zssr.start.degradations import KernelBank
from blindsr.zssr.start.leaves import LeavesConfig
from blindsr.zssr.start.network import StartNetwork
from blindsr.zssr.start.pool import LeavesPool
from blindsr.zssr.start.training import (
    StartTrainingConfig,
    check_checkpoint,
    draw_batch,
    learning_rate,
    train_start,
)
from blindsr.zssr.start.weights import SHIPPED, load_start, save_start, training_of

TINY = StartTrainingConfig(
    channels=8, blocks=1, steps=8, anneal_from=4, warm_up=2, batch=2, patch=20, border=2, images=32, first_images=32,
    kernels=6, report_every=2, precision="fp32", jpeg=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    return LeavesPool(tmp_path_factory.mktemp("leaves"), 0, LeavesConfig(size=80))


def test_an_interrupted_training_ends_in_the_same_bits(pool, tmp_path):
    straight = train_start(pool, TINY)
    train_start(pool, TINY, checkpoint=tmp_path / "c", stop_at=5)
    resumed = train_start(pool, TINY, checkpoint=tmp_path / "c")
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_another_seed_trains_other_weights(pool):
    first, other = train_start(pool, TINY), train_start(pool, replace(TINY, seed=1))
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_training_lowers_the_loss(pool):
    heard = []
    config = replace(TINY, steps=60, anneal_from=40, report_every=20, learning_rate=2e-3)
    config = replace(config, scales=(2,), scale_shares=(1.0,))
    train_start(pool, config, listener=heard.append)
    losses = [e.values["loss"] for e in heard if isinstance(e, StepDone) and e.values]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    assert isinstance(heard[-1], StageDone)


def test_a_batch_depends_on_seed_and_step_alone(pool):
    first, second, other = (draw_batch(pool, KernelBank(0, 6), step, TINY) for step in (3, 3, 4))
    assert torch.equal(first.lr, second.lr)
    assert torch.equal(first.linear, second.linear)
    assert not torch.equal(first.hr.mean(), other.hr.mean())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_batch_has_pairs_of_one_scale_with_matching_sizes(pool, scale):
    config = replace(TINY, scales=(scale,), scale_shares=(1.0,))
    batch = draw_batch(pool, KernelBank(0, 6), 1, config)
    inner = config.patch - 2 * config.border
    assert batch.scale == scale
    assert batch.lr.shape == (2, 1, inner, inner)
    assert batch.hr.shape == (2, 1, inner * scale, inner * scale)
    # The pair is aligned: the Wiener image is nearer to the truth than to the truth one pixel aside.
    linear = batch.linear.mean(1, keepdim=True)
    error = (linear - batch.hr).square().mean()
    assert error < (linear - batch.hr.roll(1, -1)).square().mean()
    assert error < (linear - batch.hr.roll(1, -2)).square().mean()


def test_the_rate_rises_stays_and_falls_to_zero():
    config = StartTrainingConfig(steps=100, anneal_from=60, warm_up=10, learning_rate=1.0)
    assert learning_rate(5, config) == 0.5
    assert learning_rate(10, config) == learning_rate(60, config) == 1.0
    assert learning_rate(80, config) == pytest.approx(0.5)
    assert learning_rate(100, config) == pytest.approx(0.0)


def test_patches_are_compressed_and_stay_aligned(pool):
    config = replace(TINY, noisy=1.0, largest_noise=5.0, jpeg=1.0, patch=16, batch=4)
    batch, clean = (draw_batch(pool, KernelBank(0, 6), 1, c) for c in (config, replace(config, noisy=0.0, jpeg=0.0)))
    assert torch.equal(batch.hr, clean.hr)
    error = (batch.lr - clean.lr).square().mean().sqrt()
    assert 0.5 / 255 < error < 20 / 255


def test_a_grown_network_answers_as_the_smaller_one_and_learns(pool):
    smaller = StartNetwork(channels=8, blocks=1)
    smaller.initialise(torch.Generator().manual_seed(5))
    grown = StartNetwork(channels=8, blocks=3)
    grown.initialise(torch.Generator().manual_seed(6))
    image, kernel = torch.rand(1, 1, 20, 24), bicubic(2).tensor()
    assert not torch.allclose(grown(image, kernel, 2), smaller(image, kernel, 2))
    grown.grow_from(smaller)
    assert torch.allclose(grown(image, kernel, 2), smaller(image, kernel, 2), atol=1e-6)
    config = replace(TINY, blocks=3)
    trained = train_start(pool, config, begin=smaller)
    assert trained["blocks.2.second.weight"].abs().max() > 0
    begun, random = trained["blocks.0.first.weight"], train_start(pool, config)["blocks.0.first.weight"]
    start = smaller.state_dict()["blocks.0.first.weight"]
    assert (begun - start).abs().mean() < 0.1 * (random - start).abs().mean()


@pytest.mark.parametrize("other", [{"channels": 9}, {"blocks": 4}, {"scales": (2, 3)}], ids=str)
def test_a_start_that_does_not_fit_is_not_gone_on_from(other):
    with pytest.raises(ConfigError, match="same width and scales"):
        StartNetwork(channels=8, blocks=3).grow_from(StartNetwork(**{"channels": 8, "blocks": 3} | other))


def test_settings_of_a_training_can_be_a_file_of_their_own(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(asdict(TINY)))
    assert training_of(path)["channels"] == 8
    for text in ("[1]", "{"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="settings of a training"):
            training_of(path)


def test_a_diverging_training_says_so(pool):
    with pytest.raises(DivergenceError, match="learning_rate"):
        train_start(pool, replace(TINY, learning_rate=1e30, largest_gradient=1e30))


@pytest.mark.parametrize(
    "fault",
    [{"scales": (2,)}, {"anneal_from": 100_000}, {"patch": 8}, {"patch": 44}],
    ids=["shares", "anneal", "patch", "blocks of JPEG"],
)
def test_impossible_settings_are_refused(fault):
    with pytest.raises(ConfigError, match="start"):
        StartTrainingConfig(**fault)


def test_a_checkpoint_of_other_settings_is_refused_and_a_longer_run_is_not(pool, tmp_path):
    path = tmp_path / "c"
    check_checkpoint(path, TINY)
    train_start(pool, TINY, checkpoint=path, stop_at=2)
    check_checkpoint(path, replace(TINY, steps=50, anneal_from=20))
    with pytest.raises(ConfigError, match="channels = 8"):
        check_checkpoint(path, replace(TINY, channels=9))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match="damaged"):
        check_checkpoint(path, TINY)


def test_weights_come_back_from_their_file_in_half_precision(pool, tmp_path):
    weights = train_start(pool, TINY)
    save_start(tmp_path / "w.safetensors", dict(weights), asdict(TINY))
    network = load_start(tmp_path / "w.safetensors")
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter.detach(), weights[name].half().float())
    for scale in (2, 3, 4):
        assert network(torch.rand(2, 3, 17, 23), bicubic(scale).tensor(), scale).shape == (2, 3, 17 * scale, 23 * scale)


def test_files_that_are_no_start_are_refused(pool, tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(ConfigError, match="safetensors file"):
        load_start(path)
    save_start(path, dict(train_start(pool, replace(TINY, steps=5))), asdict(TINY))
    whole = path.read_bytes()
    path.write_bytes(whole[:1000])
    with pytest.raises(ConfigError, match="safetensors file"):
        load_start(path)
    save_start(path, {"x": torch.zeros(2)}, asdict(TINY))
    with pytest.raises(ConfigError, match="do not fit"):
        load_start(path)
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(2)}, path, {"format": "another"})
    with pytest.raises(ConfigError, match="format"):
        load_start(path)


def test_weights_cannot_be_written_into_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        save_start(tmp_path / "no" / "w.safetensors", {"x": torch.zeros(1)}, {})


def test_the_weights_that_come_along_are_small_and_know_every_scale():
    assert SHIPPED.stat().st_size < 10_000_000
    network = load_start()
    for scale in (2, 3, 4):
        network.require_scale(scale)
    with pytest.raises(ConfigError, match="×5 is wanted"):
        network.require_scale(5)
