"""The napari plugin: results lie where the images lie, and look like them."""

import importlib.resources
import os
import warnings

import numpy as np
import pytest
from skimage import data

import blindsr

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
with warnings.catch_warnings():  # napari and its libraries warn of themselves when they are imported
    warnings.simplefilter("ignore")
    napari = pytest.importorskip("napari", reason="napari is not installed (blindsr[napari])")
    pytest.importorskip("qtpy", reason="napari needs a Qt (pip install PyQt6)", exc_type=ImportError)
    from napari.components import ViewerModel
    from napari.layers import Image
    from napari.qt import get_qapp
    from npe2 import PluginManifest

    from blindsr.napari_widget import Panel, estimate_layer, kernel_layer, make_widget, upscale_layer

pytestmark = pytest.mark.filterwarnings("ignore")  # those of napari, Qt and pydantic
PHOTO = np.ascontiguousarray(data.camera()[100:164, 180:260])
RESOLVER = blindsr.SuperResolver(scale=2, preset="fast", upscaler="bicubic")


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize(
    "options",
    [{}, {"scale": (0.5, 0.25), "translate": (10, -3)}, {"scale": (0.5, 0.5), "rotate": 30, "translate": (1, 2)},
     {"affine": [[2, 0.1, 5], [0, 1.5, 7], [0, 0, 1]]}],
)  # fmt: skip
def test_a_result_covers_the_same_ground(factor, options):
    layer = Image(PHOTO, **options)
    resolver = blindsr.SuperResolver(scale=factor, preset="fast", upscaler="nearest")
    samples, arguments = upscale_layer(layer, resolver, "bicubic")
    result = Image(samples, **arguments)
    # The corners of the images, which are half a pixel beyond the centres of the outer pixels.
    height, width = PHOTO.shape
    for corner in ((-0.5, -0.5), (height - 0.5, -0.5), (height - 0.5, width - 0.5), (3.5, 7.5)):
        old = layer.data_to_world(corner)
        new = result.data_to_world([(at + 0.5) * factor - 0.5 for at in corner])
        np.testing.assert_allclose(new, old, atol=1e-9)
    assert np.array_equal(samples, PHOTO.repeat(factor, 0).repeat(factor, 1))


def test_the_planes_of_a_stack_have_one_kernel_and_keep_their_spacing():
    stack = np.stack([PHOTO, PHOTO[::-1], PHOTO[:, ::-1]])[:, None]
    layer = Image(stack, scale=(4, 3, 0.5, 0.5), name="cells", colormap="green", contrast_limits=(10, 200))
    samples, arguments = upscale_layer(layer, RESOLVER, "bicubic", step=(1, 0, 5, 5))
    assert samples.shape == (3, 1, 128, 160)
    result = Image(samples, **arguments)
    np.testing.assert_allclose(result.scale, (4, 3, 0.25, 0.25))
    np.testing.assert_allclose(result.translate, (0, 0, -0.125, -0.125))
    assert (result.name, result.colormap.name, result.contrast_limits) == ("cells ×2", "green", [10, 200])
    assert result.metadata["blindsr"]["kernel"]


def test_colour_alpha_and_floats_of_any_range():
    photo = data.astronaut()[:64, 180:260]
    samples, arguments = upscale_layer(Image(np.dstack([photo, np.full((64, 80), 200, np.uint8)])), RESOLVER, "bicubic")
    assert (samples.shape, samples.dtype, arguments["rgb"]) == ((128, 160, 4), np.uint8, True)
    floats = PHOTO.astype(np.float32) * 40 - 900
    samples, _ = upscale_layer(Image(floats), RESOLVER, "bicubic")
    assert samples.mean() == pytest.approx(floats.mean(), rel=0.01)
    assert samples.min() < floats.min() + 300


def test_the_kernel_is_a_layer_beside_the_image():
    layer = Image(PHOTO, scale=(0.5, 0.5), name="cells")
    estimate = estimate_layer(layer, RESOLVER)
    samples, arguments = kernel_layer(layer, estimate.kernel)
    assert samples.sum() == pytest.approx(1)
    kernel = Image(samples, **arguments)
    height = kernel.extent.world[1][0] - kernel.extent.world[0][0]
    assert height == pytest.approx((layer.extent.world[1][0] - layer.extent.world[0][0]) / 4, rel=0.2)
    assert kernel.extent.world[0][1] > layer.extent.world[1][1]


def test_a_line_is_no_image():
    from blindsr.errors import ImageError

    layer = Image(PHOTO)
    layer._data = PHOTO[0]
    with pytest.raises(ImageError, match="two dimensions or more"):
        upscale_layer(layer, RESOLVER)


def test_the_manifest_names_the_widget():
    manifest = PluginManifest.from_file(importlib.resources.files("blindsr") / "napari.yaml")
    manifest.validate_imports()
    assert [widget.command for widget in manifest.contributions.widgets] == ["blindsr.widget"]


def test_the_buttons_add_layers_and_errors_are_shown():
    get_qapp()
    viewer = ViewerModel()  # without a window, which needs OpenGL
    viewer.add_image(PHOTO, name="cells", scale=(0.5, 0.5))
    widget = Panel(viewer, in_thread=False)
    widget.estimate_button.changed.emit(True)
    assert widget.message.value == "needed an image layer; open an image, and choose it"
    widget.layer.choices = tuple(viewer.layers)
    widget.kernel.value = "bicubic"
    widget.estimate_button.changed.emit(True)
    assert viewer.layers[-1].name == "kernel of cells"
    assert "FWHM" in widget.message.value
    widget.upscale_button.changed.emit(True)
    assert viewer.layers[-1].name == "cells ×2"
    assert viewer.layers[-1].data.shape == (128, 160)
    widget.kernel.value = "no-such-kernel"
    widget.upscale_button.changed.emit(True)
    assert widget.message.value.startswith("error: ")
    assert widget.upscale_button.enabled
    assert len(make_widget()) == 7
