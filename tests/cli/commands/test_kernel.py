"""`blindsr kernel …` as its user runs it."""

import json
import math

import numpy as np
import pytest
import tifffile
from PIL import Image

from blindsr.kernels import KernelMap, KernelStack, gaussian, normalised_cross_correlation, plot, resample, shift
from blindsr.kernels.files import kernel_bytes, load_kernel, read_kernel
from blindsr.kernels.metrics import fwhm


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder to work in; nothing is drawn, which tests/kernels checks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plot, "kernel_plot_png", lambda kernel, **_: b"plot")
    return tmp_path


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
def test_every_command_writes_kernel_and_plot_and_prints_the_path(run, here, arguments, name):
    result = run("kernel", *arguments)
    assert (result.exit_code, result.stdout) == (0, f"{name}\n")
    assert "FWHM: " in result.stderr
    assert f"files: {name}, with " in result.stderr
    scale = int(name.split("_x")[1][0])
    assert read_kernel(here / name, scale=scale)[0].scale == scale
    assert (here / name.replace(".npz", ".png")).read_bytes() == b"plot"
    again = run("kernel", *arguments)
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    assert run("kernel", *arguments, "--force", "-q").stderr == ""


def test_the_metrics_as_json(run, here):
    record = json.loads(run("kernel", "sensor", "widefield", "--json", "-q", "-o", "w.npz").stdout)
    assert record["q"] == pytest.approx(1.0096, abs=1e-3)
    assert record["files"] == {"kernel": "w.npz", "plot": "w.kernel.png"}
    assert sorted(path.name for path in here.iterdir()) == ["w.kernel.png", "w.npz"]
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
    assert (here / "k.png").read_bytes() == b"plot"
    record = json.loads(run("kernel", "show", "bicubic", "--json").stdout)
    assert (record["negative_share"] > 0.05, record["sigmas"]) == (True, None)
    assert "σ (standard deviation): 1.55 / 0.89 HR px, along 120.1° and across\n" in result.stdout
    words = run("kernel", "show", "bicubic").stdout
    assert "FWHM: 2.18 HR px\n" in words
    for name in ("σ (standard deviation)", "covariance (y, x)"):
        assert f"{name}: not defined, because the kernel has negative weights\n" in words
    # With a few negative weights σ is defined, in words as in the record.
    run("kernel", "sensor", "widefield", "-o", "w.npz", "-q")
    record = json.loads(run("kernel", "show", "w.npz", "--json").stdout)
    words = run("kernel", "show", "w.npz").stdout
    assert f"σ (standard deviation): {record['sigmas'][0]:.2f} HR px\n" in words
    assert f"negative weights: {100 * record['negative_share']:.1f} %\n" in words
    assert run("kernel", "show", "k.npz").stdout.endswith("provenance: made by gaussian\n")


def test_convert_and_compare(run, here):
    (here / "k.npz").write_bytes(kernel_bytes(gaussian([[2.0, 0.7], [0.7, 1.2]], 2), ".npz"))
    assert run("kernel", "convert", "k.npz", "k.mat", "--to-convention", "kair", "-q").stdout == "k.mat\n"
    result = run("kernel", "compare", "k.npz", "k.mat", "--json")
    difference = json.loads(result.stdout)
    assert difference["ncc"] == pytest.approx(1, abs=1e-6)
    assert difference["shift_yx"] == pytest.approx([0, 0], abs=1e-9)
    assert "KAIR" in result.stderr
    assert run("kernel", "convert", "k.npz", "x4.npz", "--to-scale", 4, "-q").exit_code == 0
    assert read_kernel(here / "x4.npz", scale=4)[0].covariance[0, 0] == pytest.approx(2 * 15 / 3, rel=0.02)
    words = run("kernel", "compare", "bicubic", "k.npz").stdout
    assert "covariance error: not defined (A has negative weights)\n" in words
    assert "FWHM of B relative to A: 1." in words
    assert "LR images of one scene: " in run("kernel", "compare", "k.npz", "gaussian:1.3").stdout
    assert "is a kernel for scale 4, but scale 2 was" in run("kernel", "compare", "k.npz", "x4.npz").stderr


def test_convert_for_a_tool(run, here):
    (here / "k.npz").write_bytes(kernel_bytes(gaussian([[2.0, 0.7], [0.7, 1.2]], 2), ".npz"))
    for tool in ("usrnet", "mzsr", "zssr", "kernelgan", "srmd"):
        assert run("kernel", "convert", "k.npz", "--for", tool, "-o", f"{tool}.mat", "-q").stdout == f"{tool}.mat\n"
    assert run("kernel", "convert", "k.npz", "k.npy", "--for", "deepinv", "-q").exit_code == 0
    difference = json.loads(run("kernel", "compare", "k.npz", "usrnet.mat", "--json").stdout)
    assert difference["shift_yx"] == pytest.approx([0, 0], abs=1e-9)
    assert "SRMD takes a Gaussian" in run("kernel", "convert", "motion:9,30", "--for", "srmd", "-o", "m.mat").stderr
    assert (
        "leave out --to-convention"
        in run("kernel", "convert", "k.npz", "a.mat", "--for", "mzsr", "--to-convention", "kair").stderr
    )
    assert "as OUT after IN, or with -o" in run("kernel", "convert", "k.npz").stderr
    assert "must be written as .npy" in run("kernel", "convert", "k.npz", "a.mat", "--for", "deepinv").stderr


def test_the_sensors_are_listed_with_their_sources(run):
    text = run("kernel", "sensors").stdout
    for name in ("fullframe", "phone", "sentinel2", "widefield"):
        assert f"{name}: " in text
    assert text.count("source: ") == 4
    assert {row["name"] for row in json.loads(run("kernel", "sensors", "--json").stdout)} >= {"sentinel2"}


def test_what_is_said_of_the_kernel_of_a_sensor_is_no_warning(run, here):
    result = run("kernel", "sensor", "widefield")
    lines = result.stderr.splitlines()
    assert sum(line.startswith("kernel of widefield microscope") for line in lines) == 1
    assert sum(line.startswith("MTF of the instrument at Nyquist: ") for line in lines) == 1
    assert "warning" not in result.stderr
    record = json.loads(run("kernel", "sensor", "widefield", "--json", "--force").stdout)
    assert record["warnings"] == []
    assert len(record["notes"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sensor", "nikon"], "a sensor must be one of fullframe, phone, sentinel2, widefield"),
        (["sensor", "sentinel"], "got 'sentinel' (did you mean 'sentinel2'?)"),
        (["sensor", "sentinel2:B9"], "has the bands B2, B3, B4, B8, band 'B9' was requested"),
        (["sensor", "none.toml"], "none.toml is missing"),
        (["from-psf", "none.tif"], "none.tif is missing"),
        (["show", "k.npz"], "k.npz is missing; give a kernel file"),
        (["from-mtf"], "give one of --nyquist"),
        (["from-mtf", "--edge-slope", "3"], "--edge-slope (per metre) and --gsd (metres) belong together"),
        (["from-mtf", "--nyquist", "24"], "24 % is 0.24"),
        (["from-mtf", "--nyquist", "a"], "needs one number, or along,across"),
        (["sensor", "sentinel2"], "one kernel is needed, got several (B2, B3, B4, B8)"),
        (["gaussian", "--sigma", "1", "-o", "k.png"], "names the kernel's file"),
        (["gaussian", "--sigma", "1", "--size", "7"], "size must be"),
        (["motion", "--length", "0"], "needs a number above 0 and up to 255, got '0'"),
    ],
)
def test_what_is_wrong_is_one_sentence(run, here, arguments, words):
    result = run("kernel", *arguments)
    assert result.exit_code in (1, 2)
    assert words in " ".join(result.stderr.split())


def test_degrade_takes_a_sensor(run, photo, tmp_path):
    result = run("degrade", photo, "-o", tmp_path / "set", "--sensor", "sentinel2:B4")
    assert result.exit_code == 0
    assert "kernel of Sentinel-2 MSI, band B4: model ratio, 10×10 px." in result.stderr.splitlines()
    made = next((tmp_path / "set" / "kernel").iterdir())
    assert read_kernel(made, scale=2)[0].provenance["sensor"] == "Sentinel-2 MSI"


@pytest.fixture
def maps(here):
    """Two maps of one grid, one of another, and a kernel."""
    variances = np.array([[0.6, 1.0, 1.4], [1.8, 2.2, 2.6]])
    grids = {"a": variances, "b": 1.21 * variances, "other": variances.T}
    for name, grid in grids.items():
        kernels = KernelMap([[gaussian(variance, 3) for variance in row] for row in grid])
        (here / f"{name}.npz").write_bytes(kernel_bytes(kernels, ".npz"))
    (here / "one.npz").write_bytes(kernel_bytes(gaussian(1.0, 3), ".npz"))
    return here


def test_a_map_is_shown_as_its_grid(run, maps):
    lines = run("kernel", "show", "a.npz", "-o", "plot.png").stdout.splitlines()
    assert lines[0] == "map of 2×3 kernels (rows × columns) for ×3"
    grid = [[float(number) for number in line.split()] for line in lines[2:4]]
    expected = [[math.sqrt(math.prod(fwhm(gaussian(v, 3)))) for v in row] for row in ((0.6, 1, 1.4), (1.8, 2.2, 2.6))]
    np.testing.assert_allclose(grid, expected, atol=0.006)
    assert f"{expected[0][0]:.2f} to {expected[1][2]:.2f} HR px" in lines[1]
    assert lines[4:6] == [
        "mean of the kernels:",
        f"  size: {gaussian(2.6, 3).size}×{gaussian(2.6, 3).size} HR px for ×3",
    ]
    with Image.open(maps / "plot.png") as plotted:
        assert plotted.size == (1500, 960)
    record = json.loads(run("kernel", "show", "a.npz", "--json").stdout)
    assert (record["map"]["rows"], record["map"]["columns"]) == (2, 3)
    assert record["map"]["cells"][1][0]["fwhm"] == pytest.approx(list(fwhm(gaussian(1.8, 3))))
    one = run("kernel", "show", "a.npz", "--kernel-index", 3).stdout.splitlines()
    other = run("kernel", "show", f"gaussian:{math.sqrt(1.8)}", "--scale", 3).stdout.splitlines()
    assert one[1:] == other[1:]  # it is padded to the size of the largest


def test_maps_are_compared_cell_by_cell(run, maps):
    lines = run("kernel", "compare", "a.npz", "b.npz").stdout.splitlines()
    heading = next(i for i, line in enumerate(lines) if line.startswith("FWHM of B relative to A in each cell:"))
    ratios = [[float(number) for number in line.split()] for line in lines[heading + 1 : heading + 3]]
    np.testing.assert_allclose(ratios, np.full((2, 3), 1.1), atol=0.02)
    assert run("kernel", "compare", "a.npz", "a.npz").stdout.splitlines()[0] == (
        "NCC in each cell (centres aligned): 1.0000"
    )
    cells = json.loads(run("kernel", "compare", "one.npz", "a.npz", "--json").stdout)["cells"]
    assert [len(row) for row in cells] == [3, 3]
    assert cells[0][1]["fwhm_ratio"] == pytest.approx(1)
    assert cells[1][2]["fwhm_ratio"] == pytest.approx(math.sqrt(2.6), rel=0.05)
    assert "A has 2×3 kernels and B 3×2" in run("kernel", "compare", "a.npz", "other.npz").stderr


def test_a_map_is_converted_to_another_scale_or_to_one_kernel(run, maps):
    assert run("kernel", "convert", "a.npz", "x2.npz", "--to-scale", 2).exit_code == 0
    converted, first = load_kernel(maps / "x2.npz", 2)[0], load_kernel(maps / "a.npz", 3)[0].flat[0]
    assert converted.shape == (2, 3)
    np.testing.assert_allclose(converted.flat[0].array, resample(first, 2).array, atol=1e-12)
    assert run("kernel", "convert", "a.npz", "--kernel-index", 4, "--for", "usrnet", "-o", "u.mat").exit_code == 0
    cell, _ = read_kernel(maps / "u.mat", scale=3, convention="kair")
    assert normalised_cross_correlation(cell, gaussian(2.2, 3)) > 0.9999
    np.testing.assert_allclose(cell.centroid, 0, atol=1e-6)
    for target in (["u2.mat", "--for", "usrnet"], ["m.npy"]):
        refused = run("kernel", "convert", "a.npz", *target)
        assert refused.exit_code == 1
        assert "a.npz is a map of 6 kernels" in refused.stderr
        assert "choose a cell by --kernel-index (0 to 5, row by row)" in refused.stderr


def test_the_kernels_of_a_map_are_centred(run, here):
    grid = KernelMap([[gaussian(1.0, 2), shift(gaussian(1.0, 2, size=16), (0.4, -0.2))]])
    (here / "off.npz").write_bytes(kernel_bytes(grid, ".npz"))
    result = run("kernel", "convert", "off.npz", "on.npz", "--recenter")
    assert "1 of 2 kernels of the map were moved to centre them" in result.stderr
    for kernel in load_kernel(here / "on.npz", 2)[0].flat:
        np.testing.assert_allclose(kernel.centroid, 0, atol=1e-3)


def test_kernels_of_bands_are_chosen_by_what_the_command_has(run, here):
    stack = KernelStack([gaussian(1.0, 2), gaussian(2.0, 2)], ["R", "G"])
    (here / "bands.npz").write_bytes(kernel_bytes(stack, ".npz"))
    assert "got several (R, G); choose one by --kernel-index." in run("kernel", "show", "bands.npz").stderr
    assert run("kernel", "show", "bands.npz", "--kernel-index", 1).exit_code == 0
    assert "name one band." in run("kernel", "sensor", "sentinel2:B4,B3").stderr


def test_degrade_takes_the_kernel_of_one_cell(run, maps, photo):
    arguments = ("degrade", photo, "-o", "set", "--kernel", "a.npz", "--scale", 3)
    refused = run(*arguments)
    assert refused.exit_code == 2
    words = " ".join(refused.stderr.replace("│", " ").split())
    assert "got a map of 6 that vary over an image; choose that of one cell by --kernel-index." in words
    assert run(*arguments, "--kernel-index", 5).exit_code == 0
