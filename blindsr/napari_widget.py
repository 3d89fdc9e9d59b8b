"""The napari plugin (`blindsr[napari]`): estimate the kernel of an image layer, and upscale it in place.

napari puts the centre of pixel i at translate + scale · i. The results lie where the images lie: the centre of HR pixel
j is at the LR position (j + ½)/s − ½.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blindsr import KernelEstimate, SuperResolver
from blindsr.errors import BlindSRError, ImageError
from blindsr.kernels import Kernel
from blindsr.kernels.metrics import widths_text

if TYPE_CHECKING:
    from napari.layers import Image
    from napari.viewer import Viewer

__all__ = ["Panel", "estimate_layer", "kernel_layer", "make_widget", "upscale_layer"]

# Appearance that a result has in common with its image.
_LOOK = ("gamma", "opacity", "blending", "visible")
_HEADROOM = 0.5, 2.0  # of the span of floats beyond [0, 1]: below it and above, as for files
_KERNEL_PART = 4  # of the height of an image is the height of its kernel
LayerData = tuple[NDArray[Any], dict[str, Any]]


def estimate_layer(layer: "Image", resolver: SuperResolver, step: Sequence[int] = ()) -> KernelEstimate:
    """Estimate the kernel of an image layer, of a stack that of one plane.

    Args:
        layer: The layer, 2-D, RGB(A), or a stack of such planes.
        resolver: Scale and estimator.
        step: Position of the plane, as `viewer.dims.current_step`.

    Raises:
        ImageError: The layer has less than two dimensions, or its image cannot be used.
    """
    planes, options = _planes(layer)
    return resolver.estimate_kernel(planes[_index(planes, layer, step)], **options)


def upscale_layer(
    layer: "Image", resolver: SuperResolver, kernel: Kernel | str | None = None, step: Sequence[int] = ()
) -> LayerData:
    """Upscale an image layer; all planes of a stack with one kernel, by default that of one plane.

    Args:
        layer: As for `estimate_layer`, and so are `resolver` and `step`.
        resolver: Scale, preset and upscaler.
        kernel: A known kernel, or a text such as "gaussian:1.2"; None estimates it.
        step: Position of the plane that the kernel is estimated from.

    Returns:
        Data and keyword arguments for `viewer.add_image`: where the image lies, and as it looks.

    Raises:
        ImageError, KernelError, ConfigError: As `blindsr.SuperResolver.__call__`.
    """
    planes, options = _planes(layer)
    leading = planes.shape[: planes.ndim - 2 - layer.rgb]
    if kernel is None and leading:
        kernel = estimate_layer(layer, resolver, step).kernel
    results = [resolver(planes[index], kernel=kernel, **options) for index in np.ndindex(*leading)]
    images = np.stack([result.image for result in results])
    data = images.reshape(*leading, *images.shape[1:])
    used = results[0].kernel
    metadata = {"kernel": used.digest, "scale": resolver.settings.scale, "warnings": results[0].warnings}
    scale = data.shape[len(leading)] / planes.shape[len(leading)]
    look = {name: getattr(layer, name) for name in _LOOK}
    if not layer.rgb:
        look |= {"colormap": layer.colormap, "contrast_limits": tuple(layer.contrast_limits)}
    name = f"{layer.name} ×{resolver.settings.scale:g}"
    return data, {"name": name, "rgb": layer.rgb, "metadata": {"blindsr": metadata}, **look, **_place(layer, scale)}


def kernel_layer(layer: "Image", kernel: Kernel) -> LayerData:
    """A kernel as a layer of its own, right of its image, enlarged to a quarter of its height."""
    height = layer.extent.data[1][-2] - layer.extent.data[0][-2]
    place = _place(layer, min(kernel.scale, _KERNEL_PART * kernel.size / max(1.0, height)))
    ndim = len(place["scale"])
    right = np.zeros(ndim)
    right[-1] = layer.extent.data[1][-1] + 2
    shift = _linear(layer) @ right
    place["translate"] = place["translate"] + shift
    data = kernel.array.reshape((1,) * (ndim - 2) + kernel.array.shape)
    return data, {"name": f"kernel of {layer.name}", "colormap": "viridis", "interpolation2d": "nearest", **place}


def _planes(layer: "Image") -> tuple[NDArray[Any], dict[str, Any]]:
    """The samples of a layer, (…, H, W) or (…, H, W, C), and how blindsr is to read them."""
    data = np.asarray(layer.data[0] if layer.multiscale else layer.data)
    if data.ndim - layer.rgb < 2:
        raise ImageError(f"needed an image layer with two dimensions or more, {layer.name} has {data.ndim}")
    options: dict[str, Any] = {"has_alpha": bool(layer.rgb and data.shape[-1] == 4)}
    if data.dtype.kind == "b":
        data = data.astype(np.uint8) * np.uint8(255)
    if data.dtype.kind == "f" and not layer.rgb:
        low, high = float(np.nanmin(data)), float(np.nanmax(data))
        if low < 0 or high > 1:
            below, above = (part * (high - low) for part in _HEADROOM)
            options["data_range"] = (low - below, high + above)
    return data, options


def _index(planes: NDArray[Any], layer: "Image", step: Sequence[int]) -> tuple[int, ...]:
    """The plane of a stack that is shown; the middle one where that is unknown."""
    leading = planes.shape[: planes.ndim - 2 - layer.rgb]
    chosen = tuple(step)[-2 - len(leading) : -2] if len(step) >= len(leading) + 2 else tuple(n // 2 for n in leading)
    return tuple(min(max(0, int(at)), length - 1) for at, length in zip(chosen, leading, strict=True))


def _linear(layer: "Image") -> NDArray[np.float64]:
    """The matrix of a layer from pixels to the world, without its affine transformation."""
    from napari.utils.transforms import Affine

    transform = Affine(scale=layer.scale, rotate=layer.rotate, shear=layer.shear, ndim=len(layer.scale))
    return np.asarray(transform.linear_matrix)


def _place(layer: "Image", scale: float) -> dict[str, Any]:
    """Scale and translation of a result, and what they have in common with the image."""
    factors = np.ones(len(layer.scale))
    factors[-2:] = scale
    shift = _linear(layer) @ (0.5 / factors - 0.5)
    kept = {name: getattr(layer, name) for name in ("rotate", "shear", "units", "axis_labels")}
    affine = layer.affine.affine_matrix
    return {"scale": layer.scale / factors, "translate": layer.translate + shift, "affine": affine, **kept}


def make_widget() -> Any:  # noqa: ANN401 - a Container of magicgui
    """The panel for the current viewer, as napari docks it."""
    from napari import current_viewer

    panel = Panel(current_viewer())
    panel.container._panel = panel  # the buttons hold their functions weakly
    return panel.container


class Panel:
    """Choose a layer, estimate its kernel, upscale it. Work runs in a thread; results are layers.

    Args:
        viewer: The viewer.
        in_thread: Whether work runs in a thread of its own; a test waits for it otherwise.
    """

    def __init__(self, viewer: "Viewer", *, in_thread: bool = True) -> None:
        from magicgui.widgets import ComboBox, Container, FloatSpinBox, Label, LineEdit, PushButton, create_widget
        from napari.layers import Image

        self._viewer, self._in_thread = viewer, in_thread
        self.layer = create_widget(annotation=Image, label="image")
        self.scale = FloatSpinBox(label="scale", value=2, min=1, max=8, step=1, tooltip="1 deblurs without enlarging")
        self.preset = ComboBox(label="preset", choices=("fast", "default", "best"), value="fast")
        self.kernel = LineEdit(label="kernel", tooltip="empty: estimated; or gaussian:1.2, bicubic, a file")
        self.estimate_button = PushButton(text="Estimate the kernel")
        self.upscale_button = PushButton(text="Upscale")
        self.message = Label(value="")
        self.message.native.setWordWrap(True)  # a long warning would widen the window's dock
        parts = (self.layer, self.scale, self.preset, self.kernel, self.estimate_button, self.upscale_button)
        self.container = Container(widgets=[*parts, self.message])
        self.estimate_button.changed.connect(self.estimate)
        self.upscale_button.changed.connect(self.upscale)

    def estimate(self) -> None:
        """Estimate the kernel of the chosen layer, and show it as a layer."""
        layer, resolver, step = self.layer.value, self._resolver(), self._viewer.dims.current_step

        def work() -> tuple[LayerData, str]:
            estimate = estimate_layer(layer, resolver, step)
            text = "; ".join((f"kernel: {widths_text(estimate.kernel)}", *estimate.warnings))
            return kernel_layer(layer, estimate.kernel), text

        self._run(work)

    def upscale(self) -> None:
        """Upscale the chosen layer into a new one."""
        layer, resolver, step = self.layer.value, self._resolver(), self._viewer.dims.current_step
        kernel = self.kernel.value.strip() or None

        def work() -> tuple[LayerData, str]:
            data, options = upscale_layer(layer, resolver, kernel, step)
            return (data, options), "; ".join(options["metadata"]["blindsr"]["warnings"]) or "done"

        self._run(work)

    def _resolver(self) -> SuperResolver:
        return SuperResolver(scale=float(self.scale.value), preset=str(self.preset.value))

    def _run(self, work: Callable[[], tuple[LayerData, str]]) -> None:
        if self.layer.value is None:
            self.message.value = "needed an image layer; open an image, and choose it"
            return
        self._set_busy(True)
        if not self._in_thread:
            try:
                self._show(work())
            except BlindSRError as error:
                self._fail(error)
            return
        from napari.qt.threading import create_worker

        create_worker(work, _connect={"returned": self._show, "errored": self._fail})

    def _show(self, result: tuple[LayerData, str]) -> None:
        (data, options), text = result
        self._viewer.add_image(data, **options)
        self._set_busy(False, text)

    def _fail(self, error: Exception) -> None:
        self._set_busy(False, f"error: {error}")

    def _set_busy(self, busy: bool, text: str = "working …") -> None:
        self.estimate_button.enabled = self.upscale_button.enabled = not busy
        self.message.value = text
