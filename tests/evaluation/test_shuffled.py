"""The shuffled degradation of BSRGAN."""

import json
from dataclasses import replace

import images
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from blindsr.cli.main import cli
from blindsr.errors import ConfigError
from blindsr.evaluation.dataset import DatasetDegradation, kernel_for, read_dataset
from blindsr.evaluation.shuffled import ShuffledLaw, _downscaling
from blindsr.ops import imresize
from blindsr.pipelines.checks import find_shift

# Without noise and at the best quality: what remains is blur and downscaling.
QUIET = ShuffledLaw(max_noise=1, qualities=(95, 95), early_jpeg_share=0.0, camera_share=0.0)


def photograph(height=144, width=120, bands=3):
    return images.photograph(height, width, name="coffee", top=60, left=120, bands=bands)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("bands", [1, 3])
def test_the_result_is_an_8_bit_image_of_the_lr_size(scale, bands):
    hr = photograph(bands=bands)
    before = hr.clone()
    for seed in range(4):
        lr, steps = ShuffledLaw().degrade(hr, scale, np.random.default_rng(seed))
        assert lr.shape == (1, bands, 144 // scale, 120 // scale)
        torch.testing.assert_close(lr, torch.round(255 * lr) / 255)
        assert {"isotropic blur", "anisotropic blur", "downscaling", "noise"} <= set(steps)
        assert steps[-1] == "JPEG"
    assert torch.equal(hr, before)


def test_the_order_differs_and_a_seed_fixes_it():
    hr = photograph()
    orders = [ShuffledLaw().degrade(hr, 2, np.random.default_rng(seed))[1] for seed in range(12)]
    assert len({order[:4] for order in orders}) > 4
    first, second = (ShuffledLaw().degrade(hr, 2, np.random.default_rng(3))[0] for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("scale", [2, 3])
def test_every_kind_of_downscaling_keeps_the_image_aligned(scale):
    hr, kinds = photograph(216, 216), set()
    reference = imresize(hr, 1 / scale)
    for seed in (0, 1, 4, 11):
        kinds.add(int(np.random.default_rng(seed).integers(4)))
        step = _downscaling((216 // scale, 216 // scale), np.random.default_rng(seed))
        shift = find_shift(step(hr)[0].mean(0).double().numpy(), reference[0].mean(0).double().numpy())
        assert max(map(abs, shift)) < 0.03
    assert kinds == {0, 1, 2, 3}


def test_a_constant_stays_nearly_constant():
    lr, _ = QUIET.degrade(torch.full((1, 3, 48, 48), 0.4), 2, np.random.default_rng(0))
    assert float((lr - 0.4).abs().max()) < 6 / 255


def test_the_degradation_takes_detail_and_adds_noise():
    hr = photograph()
    flat = torch.full((1, 3, 96, 96), 0.5)
    sigmas = [float(ShuffledLaw().degrade(flat, 2, np.random.default_rng(seed))[0].std()) for seed in range(8)]
    assert max(sigmas) > 0.02
    lr, _ = QUIET.degrade(hr, 2, np.random.default_rng(1))
    detail = [float(image.diff(dim=-1).square().mean()) for image in (lr, imresize(hr, 0.5))]
    assert detail[0] < 0.8 * detail[1]


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="scale of 2, 3 or 4 and a grey or RGB image, got 2 and 4 bands"):
        ShuffledLaw().degrade(torch.rand(1, 4, 16, 16), 2, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="draws noise and compression itself"):
        DatasetDegradation(blur=ShuffledLaw(), noise_sigma=0.1)
    with pytest.raises(ConfigError, match="no single kernel"):
        kernel_for(DatasetDegradation(blur=ShuffledLaw()), np.random.default_rng(0))


def test_ranges_of_the_law_are_used():
    hr = photograph()
    wide = replace(QUIET, max_sigma=(6.0, 6.0, 6.0))
    plain, wider = (law.degrade(hr, 2, np.random.default_rng(1))[0] for law in (QUIET, wide))
    assert float(wider.var()) < float(plain.var())


def test_the_command_writes_a_set_without_kernels(tmp_path):
    samples = np.rint(255 * photograph(64, 64)[0].permute(1, 2, 0).numpy()).astype(np.uint8)
    Image.fromarray(samples).save(tmp_path / "one.png")
    words = ["degrade", str(tmp_path / "one.png"), "-o", str(tmp_path / "set"), "--law", "bsrgan", "--json", "-q"]
    result = CliRunner().invoke(cli, words, catch_exceptions=False)
    row = json.loads(result.stdout)[0]
    assert row["degradation"]["blur"] == "bsrgan"
    assert row["steps"][-1] == "JPEG"
    assert set(row["files"]) == {"hr", "lr"}
    assert read_dataset(tmp_path / "set")[0].kernel is None
    with Image.open(tmp_path / "set" / "lr" / "one.png") as lr:
        assert lr.size == (32, 32)
