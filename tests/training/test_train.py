"""Training, resuming, and the files of a training."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from skimage import data

from blindsr.errors import ConfigError, DivergenceError, OutputError
from blindsr.events import StageDone, StepDone
from blindsr.kernels import bicubic
from blindsr.training.dataset import Patches
from blindsr.training.dead_leaves import DeadLeavesConfig, dead_leaves
from blindsr.training.degradations import KernelBank
from blindsr.training.train import TrainingConfig, check_checkpoint, draw_batch, folder_digest, learning_rate, train
from blindsr.upscalers.pretrained.conditioning import embed
from blindsr.upscalers.pretrained.network import ConditionedNetwork, NetworkConfig, linear_base
from blindsr.upscalers.pretrained.weights import BUNDLED, load_network, save_weights, training_settings

TINY = TrainingConfig(
    channels=16, blocks=1, steps=8, anneal_from=4, warm_up=2, batch=2, patch=16, border=2, leaves_size=64,
    leaves_count=4, kernel_count=6, report_every=2, precision="fp32",
)  # fmt: skip


@pytest.fixture(scope="module")
def patches():
    """Half photographs, half dead leaves."""
    leaves = [dead_leaves(0, i, DeadLeavesConfig(size=64)) for i in range(4)]
    return Patches(leaves, 4, [[data.astronaut()[:256, 100:356]], [], [], []], 0.5)


@pytest.fixture(scope="module")
def trained(patches):
    """Weights after 80 steps at ×2, and what was reported."""
    events = []
    config = replace(TINY, steps=80, anneal_from=60, report_every=20, learning_rate=3e-3, batch=4, average_decay=0.95)
    config = replace(config, scales=(2,), scale_shares=(1.0,), colour_share=1.0)
    weights = train(patches, config, listener=events.append)
    return config, weights, events


def test_an_interrupted_training_ends_in_the_same_bits(patches, tmp_path):
    straight = train(patches, TINY)
    train(patches, TINY, checkpoint=tmp_path / "c", stop_at=5)
    resumed = train(patches, TINY, checkpoint=tmp_path / "c")
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def test_another_seed_trains_other_weights(patches):
    first, other = train(patches, TINY), train(patches, replace(TINY, seed=1))
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_training_lowers_the_loss(trained):
    _, _, events = trained
    reported = [e.values for e in events if isinstance(e, StepDone) and e.values]
    assert len(reported) == 4
    assert reported[-1]["loss"] < reported[0]["loss"]
    assert reported[-1]["gain_db"] > reported[0]["gain_db"]
    assert isinstance(events[-1], StageDone)


def test_luma_and_chroma_are_learned(trained, patches):
    """On batches of other steps both errors are below those of random weights, and below the Wiener filter's."""
    config, weights, _ = trained
    network, random = ConditionedNetwork(config.network), ConditionedNetwork(config.network)
    network.load_state_dict(dict(weights))
    random.initialise(torch.Generator().manual_seed(config.seed))
    errors = torch.zeros(3, 2)
    for step in range(1000, 1012):
        batch = draw_batch(patches, KernelBank(1, 20), step, config)
        base = linear_base(batch.linear)
        with torch.no_grad():
            inputs = (batch.lr, batch.linear, batch.embedding, batch.scale, batch.coloured)
            outputs = (base, base + random(*inputs), base + network(*inputs))
        for number, output in enumerate(outputs):
            error = (output - batch.hr).abs()
            errors[number] += torch.stack(
                [error[:, 0].mean(), error[batch.coloured > 0, 1:].sum() / error[0, 1:].numel()]
            )
    assert (errors[2] < errors[1]).all()
    assert (errors[2] < errors[0]).all()


def test_a_batch_depends_on_seed_and_step_alone(patches):
    first, second, other = (draw_batch(patches, KernelBank(0, 6), step, TINY) for step in (3, 3, 4))
    for name in ("lr", "linear", "hr", "coloured", "embedding"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert not torch.equal(first.hr.mean(), other.hr.mean())


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_batch_has_pairs_of_one_scale_with_matching_sizes(patches, scale):
    config = replace(TINY, scales=(scale,), scale_shares=(1.0,), batch=6, colour_share=0.7)
    batch = draw_batch(patches, KernelBank(0, 6), 1, config)
    inner = config.patch - 2 * config.border
    assert batch.scale == scale
    assert batch.lr.shape == (6, 3, inner, inner)
    assert batch.linear.shape == (6, 4, inner * scale, inner * scale)
    assert batch.hr.shape == (6, 3, inner * scale, inner * scale)
    assert 0 < batch.coloured.sum() < 6
    for planes in (batch.lr, batch.linear[:, 1:], batch.hr):
        assert not planes[batch.coloured == 0, 1:].any()
        assert planes[batch.coloured > 0, 1:].any()
    # The pair is aligned: the Wiener image is nearer to the ground truth than to the ground truth shifted by one pixel.
    linear = linear_base(batch.linear)
    error = (linear - batch.hr).square().mean()
    assert error < (linear - batch.hr.roll(1, -1)).square().mean()
    assert error < (linear - batch.hr.roll(1, -2)).square().mean()


def test_the_rate_rises_stays_and_falls_to_zero():
    config = TrainingConfig(steps=100, anneal_from=60, warm_up=10, learning_rate=1.0)
    assert learning_rate(5, config) == 0.5
    assert learning_rate(10, config) == learning_rate(60, config) == 1.0
    assert learning_rate(80, config) == pytest.approx(0.5)
    assert learning_rate(100, config) == pytest.approx(0.0)


def test_a_grown_network_predicts_as_the_smaller_one_and_trains(patches):
    smaller, grown = (ConditionedNetwork(NetworkConfig(channels=16, blocks=blocks)) for blocks in (1, 3))
    smaller.initialise(torch.Generator().manual_seed(5))
    grown.initialise(torch.Generator().manual_seed(6))
    inputs = torch.rand(1, 3, 12, 16), torch.rand(1, 4, 24, 32), embed(bicubic(2).tensor(), 2), 2
    assert not torch.allclose(grown(*inputs), smaller(*inputs))
    grown.grow_from(smaller)
    assert torch.allclose(grown(*inputs), smaller(*inputs), atol=1e-6)
    config = replace(TINY, blocks=3)
    trained = train(patches, config, initial=smaller)
    assert trained["blocks.2.second.weight"].abs().max() > 0
    continued, random = trained["blocks.0.first.weight"], train(patches, config)["blocks.0.first.weight"]
    initial = smaller.state_dict()["blocks.0.first.weight"]
    assert (continued - initial).abs().mean() < 0.1 * (random - initial).abs().mean()


@pytest.mark.parametrize("other", [{"channels": 20}, {"blocks": 4}, {"scales": (2, 3)}], ids=str)
def test_initial_weights_that_do_not_fit_raise(other):
    ours, theirs = NetworkConfig(channels=16, blocks=3), NetworkConfig(**{"channels": 16, "blocks": 3} | other)
    with pytest.raises(
        ConfigError, match="initial weights must have 16 channels, the scales x2, x3, x4 and 3 blocks or fewer"
    ):
        ConditionedNetwork(ours).grow_from(ConditionedNetwork(theirs))


def test_settings_of_a_training_can_be_a_file_of_their_own(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(asdict(TINY)))
    assert training_settings(path)["channels"] == 16
    for text in ("[1]", "{"):
        path.write_text(text)
        with pytest.raises(ConfigError, match="settings of a training"):
            training_settings(path)


def test_a_diverging_training_raises(patches):
    with pytest.raises(DivergenceError, match="learning rate"):
        train(patches, replace(TINY, learning_rate=1e30, max_gradient_norm=1e30, report_every=10**6))


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"scales": (2,)}, "scale_shares"),
        ({"anneal_from": 100_000}, "anneal_from"),
        ({"patch": 8}, "patch must be over"),
        ({"patch": 44}, "blocks of JPEG"),
        ({"channels": 30}, "multiple of 4"),
        ({"leaves_size": 200}, "leaves_size"),
        ({"mixed_share": 1.5}, "mixed_share"),
    ],
    ids=str,
)
def test_invalid_settings_raise(fault, message):
    with pytest.raises(ConfigError, match=message):
        TrainingConfig(**fault)


@pytest.mark.parametrize("weights", BUNDLED.values(), ids=BUNDLED)
def test_the_settings_of_the_bundled_weights_are_those_of_a_training(weights):
    config = TrainingConfig.from_stored(training_settings(weights))
    assert config.network == load_network(weights).config
    assert (config.leaves_share == 1) == (weights == BUNDLED["leaves"])


def test_stored_settings_survive_a_round_trip_through_json():
    stored = json.loads(json.dumps(asdict(TINY)))
    assert TrainingConfig.from_stored(stored) == TINY
    with pytest.raises(ConfigError, match="'layers'"):
        TrainingConfig.from_stored({**stored, "layers": 3})


def test_a_checkpoint_of_another_version_is_refused(patches, tmp_path):
    path = tmp_path / "c"
    train(patches, TINY, checkpoint=path, stop_at=2)
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    del metadata["format"]
    save_file(tensors, path, metadata)
    with pytest.raises(ConfigError, match="another version of blindsr"):
        check_checkpoint(path, TINY)


def test_a_checkpoint_must_have_the_same_settings_except_for_the_length(patches, tmp_path):
    path = tmp_path / "c"
    check_checkpoint(path, TINY)
    train(patches, TINY, checkpoint=path, stop_at=2)
    check_checkpoint(path, replace(TINY, steps=50, anneal_from=20))
    with pytest.raises(ConfigError, match="channels = 16"):
        check_checkpoint(path, replace(TINY, channels=20))
    with pytest.raises(ConfigError, match=r"leaves_share = 0.22, now it is 1.0"):
        check_checkpoint(path, replace(TINY, leaves_share=1.0))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ConfigError, match="damaged"):
        check_checkpoint(path, TINY)


def test_a_checkpoint_must_have_the_same_photographs(patches, tmp_path):
    folder, path = tmp_path / "photos", tmp_path / "c"
    (folder / "more").mkdir(parents=True)
    (folder / "a.png").write_bytes(b"1")
    (folder / "more" / "b.jpg").write_bytes(b"22")
    digest = folder_digest(folder)
    (folder / "notes.txt").write_bytes(b"no photograph")
    assert folder_digest(folder) == digest
    train(patches, TINY, checkpoint=path, photographs=digest, stop_at=2)
    check_checkpoint(path, TINY, digest)
    (folder / "a.png").write_bytes(b"333")
    with pytest.raises(ConfigError, match="belongs to a training with other photographs"):
        check_checkpoint(path, TINY, folder_digest(folder))
    with safe_open(path, "pt") as file:
        tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118
    del metadata["photographs"]  # as an older version wrote it
    save_file(tensors, path, metadata)
    check_checkpoint(path, TINY, digest)


def test_weights_are_stored_in_half_precision(patches, tmp_path):
    weights = train(patches, TINY)
    save_weights(tmp_path / "w.safetensors", dict(weights), asdict(TINY))
    network = load_network(tmp_path / "w.safetensors")
    assert network.config == TINY.network
    for name, parameter in network.named_parameters():
        assert torch.equal(parameter.detach(), weights[name].half().float())


def test_files_that_are_not_weights_raise(patches, tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(ConfigError, match="safetensors file"):
        load_network(path)
    save_weights(path, dict(train(patches, replace(TINY, steps=5))), asdict(TINY))
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
    assert all(path.stat().st_size < 5_000_000 for path in BUNDLED.values())
    network = load_network()
    for scale in (2, 3, 4):
        network.require_scale(scale)
    with pytest.raises(ConfigError, match="got ×5"):
        network.require_scale(5)
