"""Known kernels: when the sRGB curve is undone, and what the kernel of a sensor gains."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from blindsr.errors import ConfigError
from blindsr.image_io import MemorySource
from blindsr.kernels import Kernel, KernelStack, bicubic, gaussian
from blindsr.ops import degrade
from blindsr.ops.color import linear_to_srgb, srgb_to_linear
from blindsr.ops.windows import LinearLightSource, TensorSource
from blindsr.pipelines import blind
from blindsr.pipelines.degradation import decide_linear_light
from blindsr.sensors.catalogue import kernel_from_sensor
from tests.images import photograph, quick_settings

FAST = quick_settings()


@pytest.fixture(scope="module")
def hr():
    return photograph(256, 256, name="coffee", top=100, left=200)


def made_by(name, **more):
    return Kernel(gaussian(1.2, 2).array, 2, {"made_by": name, **more})


def image(dtype=np.uint8, channels=3, **more):
    source = MemorySource(np.zeros((4, 4, channels), dtype))
    source.header = replace(source.header, format="PNG", **more)
    return source


@pytest.mark.parametrize(
    ("source", "kernel", "wanted", "expected"),
    [
        (image(), made_by("sensor", encoding="srgb"), "auto", True),
        (image(channels=1), made_by("sensor", encoding="srgb"), "auto", True),
        (image(), made_by("sensor", encoding="linear"), "auto", False),
        (image(), made_by("psf"), "auto", True),
        (image(channels=1), made_by("psf"), "auto", False),
        (image(), made_by("gaussian"), "auto", False),
        (image(), made_by("gaussian"), "on", True),
        (image(), made_by("sensor", encoding="srgb"), "off", False),
        (image(np.float32), made_by("sensor", encoding="srgb"), "auto", False),
        (image(np.float32), made_by("sensor", encoding="srgb"), "on", False),
        (image(np.uint16), made_by("sensor", encoding="srgb"), "auto", False),
        (image(np.uint16, png_colour=((b"sRGB", b"\0"),)), made_by("sensor", encoding="srgb"), "auto", True),
        (image(png_colour=((b"gAMA", (100000).to_bytes(4)),)), made_by("gaussian"), "on", False),
        (image(channels=4), made_by("sensor", encoding="srgb"), "auto", False),
    ],
)
def test_when_the_srgb_curve_is_undone(source, kernel, wanted, expected):
    decided, warnings = decide_linear_light(wanted, source, kernel)
    assert decided is expected
    assert bool(warnings) == ((wanted == "auto" and expected) or (wanted == "on" and not expected))


def test_an_unknown_value_of_linear_light_is_refused():
    with pytest.raises(ConfigError, match="auto, on or off, got 'yes'"):
        decide_linear_light("yes", image(), made_by("psf"))


def test_the_srgb_curve_and_its_inverse_are_those_of_the_standard():
    samples = torch.linspace(0, 1, 1001, dtype=torch.float64)
    torch.testing.assert_close(linear_to_srgb(srgb_to_linear(samples)), samples, rtol=1e-9, atol=1e-9)
    light = srgb_to_linear(torch.tensor([0.0, 0.04045, 0.5, 1.0], dtype=torch.float64))
    expected = torch.tensor([0, 0.0031308, 0.2140411, 1.0], dtype=torch.float64)
    torch.testing.assert_close(light, expected, rtol=0, atol=1e-7)
    assert bool((srgb_to_linear(samples).diff() > 0).all())


def error(sr, hr):
    return float((sr - hr)[..., 4:-4, 4:-4].square().mean())


def test_a_blur_of_light_is_undone_better_in_linear_light(hr):
    kernel = kernel_from_sensor("fullframe:G", 2)[0]
    lr = (linear_to_srgb(degrade(srgb_to_linear(hr), kernel.tensor(hr), 2).clamp(0, 1)) * 255).round() / 255
    encoded = blind.run(TensorSource(lr), FAST, kernel=kernel).image
    linear = blind.run(LinearLightSource(TensorSource(lr)), FAST, kernel=kernel).image
    assert error(linear_to_srgb(linear), hr) < 0.9 * error(encoded, hr)


def test_the_kernels_of_the_bands_beat_one_kernel_for_all(hr):
    kernels = [gaussian(v, 2) for v in (0.8, 1.6, 2.4)]
    lr = torch.cat([degrade(hr[:, i : i + 1], k.tensor(hr), 2) for i, k in enumerate(kernels)], 1).clamp(0, 1)
    stack = blind.run(TensorSource(lr), FAST, kernel=KernelStack(kernels, "RGB")).image
    one = blind.run(TensorSource(lr), FAST, kernel=kernels[1]).image
    assert error(stack, hr) < error(one, hr)


@pytest.mark.parametrize("text", ["fullframe:G", "sentinel2:B4", "widefield"])
def test_the_kernel_of_a_sensor_beats_the_bicubic_one(hr, text):
    kernel, _ = kernel_from_sensor(text, 2)
    lr = (degrade(hr, kernel.tensor(hr), 2).clamp(0, 1) * 255).round() / 255
    errors = [error(blind.run(TensorSource(lr), FAST, kernel=k).image, hr) for k in (bicubic(2), kernel)]
    # On ten photographs it is 0.9 to 1.3 dB in the mean (docs/notes).
    assert 10 * np.log10(errors[0] / errors[1]) > 0.4
