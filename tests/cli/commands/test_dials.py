"""The dials and kernel maps on the command line: one photograph and batches."""

import json

import numpy as np
import pytest
from PIL import Image

from blindsr.kernels import KernelMap, KernelStack, gaussian, kernel_bytes
from tests.images import samples

DIALS = ("--kernel-width", 0.9, "--strength", 0.5, "--denoise", 0.25, "--halo", "auto")
QUICK = ("--upscaler", "lanczos", "--estimator", "bicubic")


@pytest.fixture
def folder(tmp_path):
    for name in "ab":
        Image.fromarray(samples(24, 30, name="coffee", top=100 + ord(name))).save(tmp_path / f"{name}.png")
    (tmp_path / "map.npz").write_bytes(kernel_bytes(KernelMap([[gaussian(1.0, 2), gaussian(2.0, 2)]]), ".npz"))
    (tmp_path / "one.npz").write_bytes(kernel_bytes(gaussian(1.0, 2), ".npz"))
    bands = KernelStack([gaussian(1.0, 2)] * 3, ["R", "G", "B"])
    (tmp_path / "bands.npz").write_bytes(kernel_bytes(bands, ".npz"))
    return tmp_path


def test_the_width_has_two_spellings(run, folder):
    arguments = ("estimate-and-upscale", folder / "a.png", *QUICK, "--kernel-scale", 0.9, "--json", "-q")
    assert json.loads(run(*arguments).stdout)["settings"]["kernel_width"] == 0.9


def test_one_photograph_and_a_batch_take_the_dials(run, folder):
    alone = json.loads(run("estimate-and-upscale", folder / "a.png", *QUICK, *DIALS, "--json", "-q").stdout)
    options = [alone["settings"][name] for name in ("kernel_width", "strength", "denoise", "halo")]
    assert options == [0.9, 0.5, 0.25, "auto"]
    assert "width_factor" not in alone["kernel"]["provenance"]  # interpolation does not use the kernel
    assert any("whose width (kernel_width, --kernel-width) has no effect" in text for text in alone["warnings"])
    photos = [folder / "a.png", folder / "b.png"]
    arguments = ("estimate-and-upscale", *photos, *QUICK, *DIALS, "-o", folder / "out/", "--executor", "inline", "-q")
    assert run(*arguments).exit_code == 0
    images = [np.asarray(Image.open(path)) for path in (folder / "a_blindsr_x2.png", folder / "out/a_blindsr_x2.png")]
    np.testing.assert_array_equal(*images)
    changed = run(*arguments, "--strength", 0.6)
    assert "files exist that this run would replace" in changed.stderr
    assert run(*arguments).exit_code == 0


def test_one_kernel_instead_of_a_map_is_used_for_the_whole_image_and_said(run, folder):
    arguments = ("upscale", folder / "a.png", "--preset", "fast", "-o")
    result = run(*arguments, folder / "map.png", "--kernel-map", folder / "one.npz")
    assert result.exit_code == 0
    assert "warning: one.npz has one kernel and no map; it is used for the whole image." in result.stderr
    run(*arguments, folder / "kernel.png", "--kernel", folder / "one.npz")
    np.testing.assert_array_equal(*(np.asarray(Image.open(folder / f"{name}.png")) for name in ("map", "kernel")))


def test_the_kernel_of_one_cell_is_used(run, folder):
    result = run("upscale", folder / "a.png", *QUICK[:2], "--kernel", folder / "map.npz", "--kernel-index", 1, "--json")
    assert json.loads(result.stdout)["kernel"]["digest"] == gaussian(2.0, 2).digest
    refused = run("upscale", folder / "a.png", "--kernel", folder / "map.npz", "--kernel-index", 2)
    assert "map.npz is a map of 2 kernels, index 2 was requested; give 0 to 1, row by row." in refused.stderr


def test_a_map_is_used_and_its_contradictions_are_named(run, folder):
    result = run("upscale", folder / "a.png", "--kernel-map", folder / "map.npz", "--preset", "fast", "--json")
    assert json.loads(result.stdout)["kernel_map"]["columns"] == 2
    assert "kernel: given, a map of 1×2 kernels, their mean FWHM" in result.stderr
    for options, words in (
        (("--kernel-map", folder / "map.npz", "--kernel", "bicubic"), "exclude each other"),
        (("--kernel", folder / "map.npz"), "is a map of kernels; name it with --kernel-map"),
        (("--kernel-map", folder / "bands.npz"), "has a kernel for each of the bands R, G, B, and no map"),
        (
            ("--kernel-map", folder / "map.npz", "--kernel-index", 1),
            "--kernel-index is for --kernel, not for --kernel-m",
        ),
        (("--kernel-map", folder / "a.png"), "a map of kernels is a .npz file"),
        (("--kernel-map", folder / "no.npz"), "is missing"),
    ):
        refused = run("upscale", folder / "a.png", *options)
        assert refused.exit_code in (1, 2)
        assert words in " ".join(refused.stderr.split()), options
    shared = run("estimate-and-upscale", folder / "a.png", folder / "b.png", "--shared-kernel", "--varying")
    assert "--shared-kernel is one kernel for all photographs" in " ".join(shared.stderr.split())
