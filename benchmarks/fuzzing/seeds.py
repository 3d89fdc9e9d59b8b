"""Small valid files of every format that is read, with all metadata that are parsed."""

import io
import json
import struct
import zlib
from collections.abc import Iterator

import imagecodecs
import numpy as np
import tifffile
from PIL import ExifTags, Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from blindsr.image_io.codecs.png import SIGNATURE, PngEncoder, chunk
from blindsr.image_io.metadata import iptc_marker
from blindsr.kernels import Kernel, KernelMap
from blindsr.kernels.analytic import gaussian
from blindsr.kernels.files import kernel_bytes

__all__ = ["seeds"]

HEIGHT, WIDTH = 13, 17
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><d tiff:Orientation="6"/></x:xmpmeta>'


def _samples(dtype: type, channels: int) -> np.ndarray:
    values = np.random.default_rng(channels).random((HEIGHT, WIDTH, channels))
    scaled = values * (np.iinfo(dtype).max if np.dtype(dtype).kind in "ui" else 3.0)
    return scaled.astype(dtype)


def _exif() -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Make] = "Maker"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.ExifImageWidth] = WIDTH
    details[ExifTags.Base.FocalLength] = 50.0
    details[ExifTags.Base.MakerNote] = b"FUJIFILM\x0c\x00\x00\x00" + bytes(40)
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitude] = (1.0, 2.0, 3.0)
    return exif.tobytes()


def _saved(image: Image.Image, format_: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def _tiff(samples: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, samples, **options)
    return file.getvalue()


def _deep_png(samples: np.ndarray, extra_chunks: bytes) -> bytes:
    file = io.BytesIO()
    encoder = PngEncoder(file, samples.shape, samples.dtype, extra_chunks)
    encoder.write(samples)
    encoder.close()
    return file.getvalue()


def _few_bits(depth: int) -> bytes:
    rows = np.random.default_rng(depth).integers(0, 256, (HEIGHT, 1 + (WIDTH * depth + 7) // 8), np.uint8)
    rows[:, 0] %= 5
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, depth, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"tRNS", b"\x00\x01"), chunk(b"IDAT", zlib.compress(rows.tobytes()))
    return SIGNATURE + b"".join(parts) + chunk(b"IEND", b"")


def _pngs(profile: bytes) -> Iterator[tuple[str, bytes]]:
    info = PngInfo()
    info.add_text("Author", "A", zip=True)
    info.add_itxt("Title", "Ü", "de", "T", zip=True)
    everything = {"exif": _exif(), "icc_profile": profile, "dpi": (300, 300), "xmp": XMP, "pnginfo": info}
    rgb = Image.fromarray(_samples(np.uint8, 3))
    yield "rgb.png", _saved(rgb, "PNG", **everything)
    yield "palette.png", _saved(rgb.quantize(8), "PNG", transparency=bytes(range(0, 256, 32)))
    yield "rgba.png", _saved(Image.fromarray(_samples(np.uint8, 4)), "PNG")
    for channels in (1, 2, 3, 4):
        extra = chunk(b"gAMA", struct.pack(">I", 45455)) + chunk(b"tRNS", bytes(2 * channels))
        yield f"deep{channels}.png", _deep_png(_samples(np.uint16, channels), extra if channels in (1, 3) else b"")
    yield "one bit.png", _few_bits(1)
    yield "four bits.png", _few_bits(4)


def _tiffs(profile: bytes) -> Iterator[tuple[str, bytes]]:
    geo = [
        (33550, "d", 3, (10.0, 10.0, 0.0), True),
        (33922, "d", 6, (0.0, 0.0, 0.0, 4e5, 5e6, 0.0), True),
        (34735, "H", 8, (1, 1, 0, 1, 1025, 0, 1, 1), True),
        (42113, "s", 0, "0", True),
        (700, "B", len(XMP), XMP, True),
    ]
    rgb = {"photometric": "rgb"}
    yield "rgb.tif", _tiff(_samples(np.uint8, 3), **rgb, resolution=(300, 300), iccprofile=profile)
    yield "geo.tif", _tiff(_samples(np.uint16, 3), **rgb, extratags=geo, rowsperstrip=4)
    yield "deflate.tif", _tiff(_samples(np.uint16, 3), **rgb, compression="zlib", predictor=True, rowsperstrip=4)
    yield "big.tif", _tiff(_samples(np.uint8, 4), **rgb, extrasamples=["assocalpha"], bigtiff=True, rowsperstrip=4)
    yield "float.tif", _tiff(_samples(np.float32, 1)[..., 0], byteorder=">", rowsperstrip=5)
    yield "tiles.tif", _tiff(_samples(np.int16, 1)[..., 0], tile=(16, 16), compression="zlib")
    planes = np.moveaxis(_samples(np.uint16, 5), -1, 0)
    yield "planes.tif", _tiff(planes, photometric="minisblack", planarconfig="separate", rowsperstrip=4)
    image = Image.fromarray(_samples(np.uint8, 3))
    yield "camera.tif", _saved(image, "TIFF", tiffinfo={274: 6, 271: "Maker"}, exif=_exif())
    yield "palette.tif", _saved(image.quantize(8), "TIFF")
    yield "bits.tif", _saved(image.convert("1"), "TIFF")
    for compression in ("tiff_lzw", "packbits", "jpeg", "tiff_adobe_deflate"):
        yield f"{compression}.tif", _saved(image, "TIFF", compression=compression)
    yield "fax.tif", _saved(image.convert("1"), "TIFF", compression="group4")
    yield "cmyk.tif", _saved(image.convert("CMYK"), "TIFF")


def _others(profile: bytes) -> Iterator[tuple[str, bytes]]:
    rgb, rgba = Image.fromarray(_samples(np.uint8, 3)), Image.fromarray(_samples(np.uint8, 4))
    described = {"exif": _exif(), "icc_profile": profile, "xmp": XMP}
    iptc = iptc_marker(b"\x1c\x02\x78\x00\x07A title")
    yield "rgb.jpg", _saved(rgb, "JPEG", dpi=(300, 300), comment="a comment", extra=iptc, **described)
    yield "progressive.jpg", _saved(rgb, "JPEG", progressive=True)
    yield "gray.jpg", _saved(rgb.convert("L"), "JPEG")
    yield "cmyk.jpg", _saved(rgb.convert("CMYK"), "JPEG", icc_profile=profile)
    yield "lossless.webp", _saved(rgba, "WEBP", lossless=True, **described)
    yield "lossy.webp", _saved(rgb, "WEBP")
    yield "animated.webp", _saved(rgb, "WEBP", save_all=True, append_images=[rgb.rotate(180)])
    yield "rgb.avif", _saved(rgb, "AVIF", **described)
    yield "rgba.avif", _saved(rgba, "AVIF")
    yield "rgb.bmp", _saved(rgb, "BMP")
    yield "palette.bmp", _saved(rgb.quantize(8), "BMP")
    yield "palette.gif", _saved(rgb.quantize(8), "GIF", save_all=True, append_images=[rgb.rotate(180).quantize(8)])


def _jpeg2000() -> Iterator[tuple[str, bytes]]:
    for channels, dtype in ((1, np.uint16), (3, np.uint8), (4, np.uint8)):
        yield f"{channels}.jp2", imagecodecs.jpeg2k_encode(np.squeeze(_samples(dtype, channels)), level=0)
    yield "bare.j2k", imagecodecs.jpeg2k_encode(_samples(np.uint8, 3), level=0, codecformat="j2k")


def _extras() -> Iterator[tuple[str, bytes]]:
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        image = np.tile(_samples(np.uint8, 3), (5, 4, 1))
        file, target = pillow_heif.from_bytes("RGB", image.shape[1::-1], image.tobytes()), io.BytesIO()
        file.save(target, quality=50, exif=_exif())
        yield "rgb.heic", target.getvalue()
    try:
        import rawpy  # noqa: F401
    except ImportError:
        return
    mosaic = np.tile(_samples(np.uint16, 1)[..., 0], (5, 4))
    tags = [
        (271, "s", 0, "Maker", True),
        (272, "s", 0, "Camera", True),
        (33421, "H", 2, (2, 2), True),
        (33422, "B", 4, bytes([0, 1, 1, 2]), True),
        (50706, "B", 4, bytes([1, 4, 0, 0]), True),
        (50717, "H", 1, 65535, True),
        (50721, "2i", 9, [1, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1, 1, 1], True),
        (50728, "2I", 3, (1, 1, 1, 1, 1, 1), True),
    ]
    yield "mosaic.dng", _tiff(mosaic, photometric="cfa", extratags=tags)


def _fits() -> Iterator[tuple[str, bytes]]:
    try:
        from astropy.io import fits
    except ImportError:
        return
    planes = np.moveaxis(_samples(np.uint16, 3), 2, 0)
    sky = _samples(np.float32, 1)[..., 0]
    sky[2:4, 3:5] = np.nan
    for name, samples in (("bytes", _samples(np.uint8, 1)[..., 0]), ("planes", planes), ("sky", sky)):
        header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRPIX1": 4.0, "CRPIX2": 5.0})
        header.update({"CRVAL1": 10.0, "CRVAL2": 20.0, "CDELT1": -0.001, "CDELT2": 0.001})
        with io.BytesIO() as target:
            units = [fits.PrimaryHDU(samples, header)]
            if name == "planes":
                units = [fits.PrimaryHDU(), fits.ImageHDU(samples, header)]
            fits.HDUList(units).writeto(target)
            yield f"{name}.fits", target.getvalue()


def _kernels() -> Iterator[tuple[str, bytes]]:
    kernel: Kernel = gaussian([[2.0, 0.3], [0.3, 1.0]], 2)
    for suffix in (".npz", ".npy", ".mat"):
        yield f"kernel{suffix}", kernel_bytes(kernel, suffix)
    yield "map.npz", kernel_bytes(KernelMap([[kernel, kernel], [kernel, gaussian(1.0, 2)]]), ".npz")
    text = "\n".join(" ".join(f"{weight:.6g}" for weight in row) for row in kernel.array)
    yield "kernel.txt", text.encode()
    yield "kernel.csv", text.replace(" ", ",").encode()


def _texts() -> Iterator[tuple[str, bytes]]:
    yield (
        "run.toml",
        b'[run]\nscale = 2.0\npreset = "fast"\nregion = "1,2,30,40"\n[pretrained]\nsteps = 10\n[spectral]\n',
    )
    rows = [{"key": "a", "status": "done", "image": {"name": "a.png", "bytes": 3}}, {"key": "b", "status": "failed"}]
    yield "lines.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode()


def seeds() -> dict[str, bytes]:
    """Every seed by its name; the suffix chooses the reader."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    images = (*_pngs(profile), *_tiffs(profile), *_others(profile), *_jpeg2000(), *_extras(), *_fits())
    every = (*images, *_kernels(), *_texts())
    return dict(every)
