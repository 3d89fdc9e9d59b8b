"""Fathers and sons: augmentation, and downscaling by any factor."""

import pytest
import torch

from blindsr.kernels import bicubic, gaussian
from blindsr.ops import degrade, imresize
from blindsr.zssr.config import ZSSRConfig
from blindsr.zssr.pairs import FatherCrops, downscaler

KERNEL = gaussian([[2.0, 0.8], [0.8, 1.0]], 2)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def image(channels=3, height=38, width=30):
    return torch.rand(1, channels, height, width, generator=generator(5))


@pytest.mark.parametrize("name", ["ideal", "gradual", "given", "real", "kernelgan"])
def test_published_settings_draw_crops_of_the_requested_size(name):
    crops = FatherCrops([image(height=60, width=50)], ZSSRConfig.named(name), generator())
    for _ in range(20):
        crop = crops.draw(24)
        assert crop.shape == (1, 3, 24, 24)
        assert torch.isfinite(crop).all()


def test_a_father_without_augmentation_is_a_part_of_the_image():
    lr = image()
    crops = FatherCrops([lr], ZSSRConfig.named("kernelgan"), generator())
    crop = crops.draw(8)
    places = lr.unfold(-2, 8, 1).unfold(-2, 8, 1)
    assert (places == crop[:, :, None, None]).flatten(-2).all(-1).all(1).any()


def test_augmented_fathers_stay_aligned_and_in_range_on_a_ramp():
    # A sheared and scaled ramp is a ramp. torch's cubic (a = −0.75) keeps it to a quarter of a pixel's step.
    ramp = (torch.arange(80.0)[:, None] + 2 * torch.arange(70.0)[None]).reshape(1, 1, 80, 70) / 250
    config = ZSSRConfig(leave_as_is=0.0, no_interpolation=0.0, mirror=False)
    crops = FatherCrops([ramp], config, generator())
    for _ in range(10):
        inner = crops.draw(20)[0, 0, 2:-2, 2:-2]
        second = inner[2:] - 2 * inner[1:-1] + inner[:-2]
        assert second.abs().max() < 0.25 * 3 / 250


def test_the_kernel_itself_is_used_for_its_own_scale():
    lr = image()
    assert torch.equal(downscaler(KERNEL, (2.0, 2.0))(lr), degrade(lr, KERNEL.tensor(), 2))


def test_a_bicubic_kernel_is_imresize_at_any_factor():
    lr = image()
    torch.testing.assert_close(
        downscaler(bicubic(2), (1.5, 1.0))(lr), imresize(lr, (1 / 1.5, 1.0), size=(25, 30)), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("factors", [(1.5, 1.0), (1.5, 2.0)])
def test_another_factor_keeps_constants_and_the_size(factors):
    small = downscaler(KERNEL, factors)(torch.full((1, 1, 36, 30), 0.25))
    assert small.shape == (1, 1, round(36 / factors[0]), round(30 / factors[1]))
    torch.testing.assert_close(small, torch.full_like(small, 0.25))


@pytest.mark.parametrize("factors", [(1.5, 1.0), (3.0, 3.0)])
def test_the_kernel_of_another_factor_follows_the_scale_law(factors):
    kernel = gaussian([[4.0, 0.0], [0.0, 4.0]], 2)
    impulse = torch.zeros(1, 1, 120, 120)
    impulse[..., 60, 60] = 1
    small = downscaler(kernel, factors)(impulse)[0, 0].double()
    for axis, factor in enumerate(factors):
        profile = small.sum(1 - axis)
        places = torch.arange(len(profile), dtype=torch.float64) * factor
        centre = (profile * places).sum() / profile.sum()
        variance = float((profile * (places - centre) ** 2).sum() / profile.sum())
        # The interpolation at the LR pixels' centres adds some tenths of a pixel.
        assert variance == pytest.approx(4.0 * (factor**2 - 1) / 3, abs=0.5)


@pytest.mark.parametrize(
    ("mirror", "rotate", "views"), [(False, False, 1), (True, False, 4), (False, True, 4), (True, True, 8)]
)
def test_mirroring_and_rotation_reach_all_of_their_views(mirror, rotate, views):
    lr = torch.rand(1, 1, 5, 5, generator=generator(1))
    config = ZSSRConfig(mirror=mirror, rotate=rotate, leave_as_is=0.0, no_interpolation=1.0)
    crops = FatherCrops([lr], config, generator())
    assert len({tuple(crops.draw(5).flatten().tolist()) for _ in range(200)}) == views
