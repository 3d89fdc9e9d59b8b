"""`blindsr kernel …` as its user runs it, and the options of a known kernel."""

import json

import click
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image

from blindsr.cli.kernel import command as group
from blindsr.kernels import Kernel, gaussian, kernel_bytes, picture
from blindsr.kernels.bands import BandKernels
from blindsr.kernels.files import read_kernel
from blindsr.pipelines import job as photo_files

COMMANDS = [group.get_command(None, name) for name in group.list_commands(None)]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in; pictures are not drawn, which tests/kernels looks at."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(picture, "kernel_picture", lambda kernel, **_: b"picture")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_every_command_and_option_has_help_and_an_example(command):
    assert command.help
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or parameter.help, f"{command.name} {parameter.name} has no help"
    shown = CliRunner().invoke(command, ["--help"]).stdout.strip().split("\n\n")
    assert " ".join(shown[-1].split()).startswith(f"Example: blindsr kernel {command.name}")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["sensor", "sentinel2:B4"], "sentinel2_B4_x2.kernel.npz"),
        (["sensor", "widefield", "--scale", 3, "--model", "psf"], "widefield_x3.kernel.npz"),
        (["gaussian", "--sigma", 1.5], "gaussian_1.5_x2.kernel.npz"),
        (["motion", "--length", 6, "--angle", 30], "motion_6_x2.kernel.npz"),
        (["defocus", "--diameter", 5, "--scale", 4], "defocus_5_x4.kernel.npz"),
        (["bicubic"], "bicubic_x2.kernel.npz"),
        (["box", "--scale", 3], "box_x3.kernel.npz"),
        (["from-mtf", "--nyquist", 0.24], "mtf_x2.kernel.npz"),
        (["from-mtf", "--edge-slope", 0.03, "--gsd", 30], "mtf_x2.kernel.npz"),
    ],
)
def test_every_way_writes_kernel_and_picture_and_prints_the_path(run, here, arguments, name):
    result = run("kernel", *arguments)
    assert (result.exit_code, result.stdout) == (0, f"{name}\n")
    assert "FWHM: " in result.stderr
    assert f"files: {name}, and beside it" in result.stderr
    scale = int(name.split("_x")[1][0])
    assert read_kernel(here / name, scale=scale)[0].scale == scale
    assert (here / name.replace(".npz", ".png")).read_bytes() == b"picture"
    again = run("kernel", *arguments)
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    assert run("kernel", *arguments, "--force", "-q").stderr == ""


def test_the_figures_as_json(run, here):
    record = json.loads(run("kernel", "sensor", "widefield", "--json", "-q", "-o", "w.npz").stdout)
    assert record["q"] == pytest.approx(1.0096, abs=1e-3)
    assert record["files"] == {"kernel": "w.npz", "picture": "w.png"}
    assert record["fwhm"][0] > 1
    assert {"covariance_yx", "angle_degrees", "mtf_at_lr_nyquist", "mtf_at_hr_nyquist", "centroid_yx"} <= set(record)


def test_along_and_across(run, here):
    run("kernel", "from-mtf", "--nyquist", "0.2,0.35", "-q", "-o", "k.npz")
    covariance = read_kernel(here / "k.npz", scale=2)[0].covariance
    assert covariance[0, 0] > 1.2 * covariance[1, 1]


def test_a_curve(run, here):
    f = np.linspace(0.05, 0.5, 10)
    rows = "\n".join(f"{x:.3f}, {100 * np.exp(-2 * np.pi**2 * 0.25 * x * x):.2f}" for x in f)
    (here / "c.csv").write_text("# cy/px, MTF\n" + rows, encoding="utf-8")
    result = run("kernel", "from-mtf", "--curve", "c.csv", "--model", "psf", "-o", "k.npz")
    assert "the MTF in c.csv was read as percent" in result.stderr
    assert read_kernel(here / "k.npz", scale=2)[0].sigmas[0] == pytest.approx(1.0, rel=0.1)


def test_a_measured_psf(run, here):
    c = np.arange(41) - 20
    tifffile.imwrite("bead.tif", (10 + 90 * np.exp(-(c[:, None] ** 2 + c[None, :] ** 2) / 50)).astype(np.float32))
    result = run("kernel", "from-psf", "bead.tif", "--samples-per-pixel", 8, "--model", "psf")
    assert result.stdout == "bead_x2.kernel.npz\n"
    assert "a background of 11" in result.stderr
    assert read_kernel(here / "bead_x2.kernel.npz", scale=2)[0].sigmas[0] == pytest.approx(1.25, rel=0.02)


def test_show(run, here):
    (here / "k.npz").write_bytes(kernel_bytes(gaussian([[2.0, 0.7], [0.7, 1.2]], 3), ".npz"))
    result = run("kernel", "show", "k.npz", "-o", "k.png")
    assert result.exit_code == 0
    for words in ("size: 15×15 HR px for ×3", "FWHM: ", "covariance (y, x): [[2.000, 0.700]", "MTF at Nyquist of LR"):
        assert words in result.stdout
    assert (here / "k.png").read_bytes() == b"picture"
    assert json.loads(run("kernel", "show", "bicubic", "--json").stdout)["negative_share"] > 0.05


def test_convert_and_compare(run, here):
    (here / "k.npz").write_bytes(kernel_bytes(gaussian([[2.0, 0.7], [0.7, 1.2]], 2), ".npz"))
    assert run("kernel", "convert", "k.npz", "k.mat", "--to-convention", "kair", "-q").stdout == "k.mat\n"
    result = run("kernel", "compare", "k.npz", "k.mat", "--json")
    found = json.loads(result.stdout)
    assert found["similarity"] == pytest.approx(1, abs=1e-6)
    assert found["shift_yx"] == pytest.approx([0, 0], abs=1e-9)
    assert "KAIR" in result.stderr
    assert run("kernel", "convert", "k.npz", "x4.npz", "--to-scale", 4, "-q").exit_code == 0
    assert read_kernel(here / "x4.npz", scale=4)[0].covariance[0, 0] == pytest.approx(2 * 15 / 3, rel=0.02)
    assert "LR images of one scene: " in run("kernel", "compare", "k.npz", "gaussian:1.3").stdout
    assert "is a kernel for scale 4, but scale 2 was asked for" in run("kernel", "compare", "k.npz", "x4.npz").stderr


def test_the_sensors_are_listed_with_their_sources(run):
    text = run("kernel", "sensors").stdout
    for name in ("fullframe", "phone", "sentinel2", "widefield"):
        assert f"{name}: " in text
    assert text.count("source: ") == 4
    assert {row["name"] for row in json.loads(run("kernel", "sensors", "--json").stdout)} >= {"sentinel2"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sensor", "nikon"], "a sensor must be one of fullframe, phone, sentinel2, widefield"),
        (["sensor", "sentinel2:B9"], "has the bands B2, B3, B4, B8, band 'B9' was asked for"),
        (["sensor", "none.toml"], "none.toml is missing"),
        (["from-psf", "none.tif"], "none.tif is missing"),
        (["show", "k.npz"], "no file 'k.npz'"),
        (["from-mtf"], "give one of --nyquist"),
        (["from-mtf", "--edge-slope", "3"], "--edge-slope (per metre) and --gsd (metres) belong together"),
        (["from-mtf", "--nyquist", "24"], "24 % is 0.24"),
        (["from-mtf", "--nyquist", "a"], "needs one number, or along,across"),
        (["sensor", "sentinel2"], "one kernel is needed, there are several (B2, B3, B4, B8)"),
        (["gaussian", "--sigma", "1", "-o", "k.png"], "is the kernel's file"),
        (["gaussian", "--sigma", "1", "--size", "7"], "size must be"),
        (["motion", "--length", "0"], "is not in the range"),
    ],
)
def test_what_is_wrong_is_one_line(run, here, arguments, words):
    result = run("kernel", *arguments)
    assert result.exit_code in (1, 2)
    assert words in " ".join(result.stderr.split())


def test_upscale_takes_a_sensor(run, photo, fakes):
    result = run("upscale", photo, "--sensor", "sentinel2:B4")
    assert result.exit_code == 0
    assert "kernel of Sentinel-2 MSI, band B4: model ratio" in result.stderr
    assert fakes.kernels[0].provenance["sensor"] == "Sentinel-2 MSI"


def test_upscale_takes_a_band_for_each_channel(run, photo, fakes, monkeypatch):
    drawn = []
    monkeypatch.setattr(photo_files, "bands_picture", lambda kernels: drawn.append(kernels) or b"bands")
    result = run("upscale", photo, "--sensor", "sentinel2:B4,B3,B2", "--kernel-model", "psf")
    assert result.exit_code == 0
    assert [image.shape[1] for image in fakes.images] == [1, 1, 1]
    assert [kernel.provenance["band"] for kernel in fakes.kernels] == ["B4", "B3", "B2"]
    assert isinstance(drawn[0], BandKernels)
    record = json.loads((photo.parent / "photo_blindsr_x2.json").read_text())
    assert list(record["band_kernels"]) == ["B4", "B3", "B2"]
    with np.load(photo.parent / "photo_blindsr_x2.kernel.npz") as archive:
        assert archive["bands"].tolist() == ["B4", "B3", "B2"]
    # And the file is a kernel file like any other.
    again = run(
        "upscale", photo, "--kernel", photo.parent / "photo_blindsr_x2.kernel.npz", "-o", photo.parent / "b.png"
    )
    assert again.exit_code == 0
    assert len(fakes.kernels) == 6


def test_bands_that_do_not_fit_are_refused(run, photo, fakes):
    result = run("upscale", photo, "--sensor", "sentinel2", "-q")
    assert result.exit_code == 1
    assert "4 kernels (B2, B3, B4, B8) need an image of as many bands, this one has 3" in result.stderr


def test_linear_light_is_said_and_can_be_switched_off(run, photo, fakes):
    said = run("upscale", photo, "--sensor", "phone", "-o", photo.parent / "a.png").stderr
    assert "upscaled in linear light" in said
    quiet = run("upscale", photo, "--sensor", "phone", "--linear-light", "off", "-o", photo.parent / "b.png").stderr
    assert "linear light" not in quiet
    first, second = fakes.images
    assert float(first.mean()) < float(second.mean())
    a, b = (np.asarray(Image.open(photo.parent / f"{n}.png"), dtype=int) for n in "ab")
    assert np.abs(a - b).max() < 60


def test_index_key_recentre_and_convention(run, photo, fakes, tmp_path):
    np.savez(tmp_path / "k.npz", mine=np.stack([gaussian(1.0, 2).array, gaussian(1.2, 2, size=10).array]))
    arguments = (
        "--kernel",
        tmp_path / "k.npz",
        "--kernel-key",
        "mine",
        "--kernel-index",
        1,
        "--kernel-convention",
        "ours",
    )
    assert run("upscale", photo, *arguments, "--recenter", "-q").exit_code == 0
    assert fakes.kernels[0].sigmas[0] == pytest.approx(np.sqrt(1.2), rel=0.01)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--kernel FILE|NAME or --sensor"),
        (["--kernel", "box", "--sensor", "phone"], "exclude each other"),
        (["--kernel", "box", "--kernel-model", "psf"], "no meaning without --sensor"),
        (["--sensor", "phone", "--kernel-convention", "kair"], "no meaning with --sensor"),
        (["--kernel", "motion:5"], "write motion:LENGTH,ANGLE, got motion:5"),
        (["--kernel", "box", "--kernel-index", "0"], "no meaning without a kernel file"),
        (["--kernel", "box", "--kernel-index", "x"], "needs a whole number counted from 0, or all"),
    ],
)
def test_contradictions_are_usage_errors(run, photo, fakes, arguments, words):
    result = run("upscale", photo, *arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


@pytest.mark.parametrize("text", ["motion:6,30", "defocus:5"])
def test_shapes_by_name(run, photo, fakes, text):
    assert run("upscale", photo, "--kernel", text, "-q").exit_code == 0
    assert isinstance(fakes.kernels[0], Kernel)


def test_degrade_takes_a_sensor(run, photo, tmp_path):
    result = run("degrade", photo, "-o", tmp_path / "set", "--sensor", "sentinel2:B4", "-q")
    assert result.exit_code == 0
    made = next((tmp_path / "set" / "kernel").iterdir())
    assert read_kernel(made, scale=2)[0].provenance["sensor"] == "Sentinel-2 MSI"
