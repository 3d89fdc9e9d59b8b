import functools
import json

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage import data

from blindsr import __version__
from blindsr.errors import ImageError, KernelError, OutputError
from blindsr.events import Notice
from blindsr.image_io import read_photo
from blindsr.kernels import bicubic, gaussian
from blindsr.kernels.files import read_kernel
from blindsr.ops import imresize
from blindsr.pipelines import blind, memory
from blindsr.pipelines.outputs import image_outputs, kernel_outputs, staged
from blindsr.pipelines.photo import estimate_photo_kernel, upscale_photo
from blindsr.pipelines.record import plain
from blindsr.pipelines.result import Upscaled
from blindsr.pipelines.settings import Settings
from blindsr.zssr.start.config import StartConfig

QUICK = Settings(zssr=StartConfig(steps=2, learning_rate=5e-5, batch=2, precision="fp32"))


@pytest.fixture
def save(tmp_path):
    def write(samples, name="photo.png"):
        path = tmp_path / name
        Image.fromarray(np.ascontiguousarray(samples)).save(path)
        return path

    return write


@pytest.fixture
def bicubic_only(monkeypatch):
    """A pipeline that enlarges bicubically, and the images that it got."""
    seen = []

    def enlarge(image, settings, *, listener):
        seen.append(image)
        sr = imresize(image, 2.0).clamp(0, 1)
        return Upscaled(image=sr, kernel=bicubic(2), estimate=None, settings=settings, consistency=float("inf"))

    monkeypatch.setattr(blind, "estimate_and_upscale", enlarge)
    return seen


def test_the_record_says_what_is_needed_to_repeat_and_to_judge_the_run(save):
    source = save(data.astronaut()[20:68, 200:240])
    result = upscale_photo(source, QUICK, device="cpu")
    record = json.loads(result.outputs.record.read_text(encoding="utf-8"))
    assert record == result.record
    assert record["input"]["name"] == "photo.png"
    assert len(record["input"]["sha256"]) == 64
    assert (record["input"]["width"], record["input"]["height"]) == (40, 48)
    assert record["output"] == {"width": 80, "height": 96}
    assert record["settings"] == plain(QUICK.as_dict())
    assert record["versions"]["blindsr"] == __version__
    assert record["versions"]["torch"] == str(torch.__version__)
    assert record["machine"]["device"] == "cpu"
    assert record["machine"]["threads"] == torch.get_num_threads()
    assert record["precision"] == "float32"
    assert record["estimate"]["method"] == "spectral"
    assert record["consistency"]["psnr_db"] == result.upscaled.consistency
    assert "proves nothing" in record["consistency"]["meaning"]
    assert {"read", "kernel", "zssr", "write"} <= set(record["timings"])
    assert record["kernel"]["digest"] == result.kernel.digest
    assert record["files"] == {
        "image": "photo_blindsr_x2.png",
        "kernel": "photo_blindsr_x2.kernel.npz",
        "kernel_picture": "photo_blindsr_x2.kernel.png",
        "record": "photo_blindsr_x2.json",
    }


def test_the_kernel_beside_the_result_is_the_one_that_was_used(save):
    source = save(data.astronaut()[20:68, 200:240])
    kernel = gaussian([[2.0, 0.5], [0.5, 1.0]], 2)
    result = upscale_photo(source, QUICK, kernel=kernel, kernel_notes=("it was given.",), device="cpu")
    again, _ = read_kernel(result.outputs.kernel, scale=2)
    assert np.array_equal(again.array, kernel.array)
    with Image.open(result.outputs.picture) as picture:
        assert picture.format == "PNG"
    assert result.record["estimate"] is None
    assert "it was given." in result.record["notes"]


def test_estimating_the_kernel_writes_no_image(save):
    source = save(data.astronaut()[20:68, 200:240])
    result = estimate_photo_kernel(source, QUICK, device="cpu")
    assert result.upscaled is None
    assert sorted(p.name for p in source.parent.iterdir()) == [
        "photo.png",
        "photo_blindsr_x2.kernel.json",
        "photo_blindsr_x2.kernel.npz",
        "photo_blindsr_x2.kernel.png",
    ]
    record = json.loads(result.outputs.record.read_text(encoding="utf-8"))
    assert "consistency" not in record
    assert record["kernel"]["digest"] == result.kernel.digest


def test_the_same_seed_gives_the_same_image_file(save):
    source = save(data.astronaut()[20:68, 200:240])
    first = upscale_photo(source, QUICK, output=source.with_name("a.png"), device="cpu")
    second = upscale_photo(source, QUICK, output=source.with_name("b.png"), device="cpu")
    assert first.outputs.image.read_bytes() == second.outputs.image.read_bytes()
    assert first.outputs.kernel.read_bytes() == second.outputs.kernel.read_bytes()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_channels_stay_what_they_were(save, bicubic_only, mode):
    image = Image.fromarray(data.astronaut()[20:68, 200:240]).convert(mode)
    if "A" in mode:
        ramp = np.tile(np.linspace(0, 255, 40).astype(np.uint8), (48, 1))
        image.putalpha(Image.fromarray(ramp))
    source = save(np.asarray(image))
    result = upscale_photo(source)
    with Image.open(result.outputs.image) as larger:
        assert (larger.mode, larger.size) == (mode, (80, 96))
    assert bicubic_only[0].shape == (1, 1 if mode[0] == "L" else 3, 48, 40)


def test_colour_hidden_under_transparent_pixels_does_not_bleed(save, bicubic_only):
    samples = np.zeros((40, 48, 4), np.uint8)
    samples[..., 0] = 255  # red, seen on the left only
    samples[:, :24, 3] = 255
    samples[:, 24:, :3] = (0, 255, 0)  # green, hidden
    result = upscale_photo(save(samples))
    larger = read_photo(result.outputs.image)
    visible = larger.alpha > 0.05
    assert visible.any()
    assert larger.pixels[visible][:, 1].max() < 0.02, "hidden green is visible"
    assert larger.pixels[visible][:, 0].min() > 0.98, "the edge is darkened"


def test_sixteen_bits_stay_sixteen_bits(tmp_path, bicubic_only):
    source = tmp_path / "deep.tif"
    tifffile.imwrite(source, (data.astronaut()[20:68, 200:240].astype(np.uint16) * 257), photometric="rgb")
    result = upscale_photo(source)
    assert result.outputs.image.name == "deep_blindsr_x2.png"
    assert read_photo(result.outputs.image).dtype == np.uint16


def test_floats_go_into_a_tiff(tmp_path, bicubic_only):
    source = tmp_path / "f.tif"
    tifffile.imwrite(source, (data.camera()[:40, :48] / 255).astype(np.float32))
    assert upscale_photo(source).outputs.image.name == "f_blindsr_x2.tif"


def test_a_consistency_without_bound_is_null_in_the_record(save, bicubic_only):
    result = upscale_photo(save(data.astronaut()[20:68, 200:240]))
    assert result.record["consistency"]["psnr_db"] is None
    json.loads(result.outputs.record.read_text(encoding="utf-8"), parse_constant=pytest.fail)


def test_notes_of_the_file_are_told_and_kept(save, bicubic_only):
    source = save(np.asarray(Image.fromarray(data.astronaut()[20:68, 200:240]).convert("CMYK")), "a.png")
    Image.fromarray(data.astronaut()[20:68, 200:240]).convert("CMYK").save(source.with_name("c.jpg"))
    heard = []
    result = upscale_photo(source.with_name("c.jpg"), listener=heard.append)
    told = [event.message for event in heard if isinstance(event, Notice)]
    assert told
    assert set(told) <= set(result.notes)
    assert list(result.notes) == result.record["notes"]


def test_a_kernel_for_another_scale_is_refused_and_nothing_is_written(save):
    source = save(data.astronaut()[20:68, 200:240])
    with pytest.raises(KernelError, match="scale 2"):
        upscale_photo(source, QUICK, kernel=bicubic(3))
    assert [p.name for p in source.parent.iterdir()] == ["photo.png"]


def test_the_error_of_the_library_does_not_need_the_command_line(save, bicubic_only):
    source = save(data.astronaut()[20:68, 200:240])
    upscale_photo(source)
    with pytest.raises(OutputError, match="exists already; choose another name"):
        upscale_photo(source)
    upscale_photo(source, overwrite=True)


@pytest.mark.parametrize(("scale", "name"), [(2.0, "x2"), (2.5, "x2.5"), (4.0, "x4"), (1.3333, "x1.3333")])
def test_names_say_the_scale(tmp_path, scale, name):
    photo = tmp_path / "my.photo.jpg"
    outputs = image_outputs(photo, scale, ".png")
    assert outputs.image == tmp_path / f"my.photo_blindsr_{name}.png"
    assert outputs.kernel == tmp_path / f"my.photo_blindsr_{name}.kernel.npz"
    assert kernel_outputs(photo, scale).kernel == outputs.kernel


def test_the_result_gets_its_name_last(tmp_path):
    outputs = image_outputs(tmp_path / "a.png", 2, ".png")
    assert outputs.all()[-1] == outputs.image
    assert kernel_outputs(tmp_path / "a.png", 2).all()[-1] == outputs.kernel


def test_a_staging_folder_is_gone_after_any_end(tmp_path):
    outputs = image_outputs(tmp_path / "a.png", 2, ".png")

    def interrupted():
        with staged(outputs) as staging:
            staging.place(outputs.image).write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []


def test_memory_is_asked_of_the_smaller_of_machine_and_container(monkeypatch):
    monkeypatch.setattr(memory, "_free_host", lambda: 8 * 2**30)
    monkeypatch.setattr(memory, "_free_control_group", lambda: 2 * 2**30)
    assert memory.available_memory() == 2 * 2**30
    monkeypatch.setattr(memory, "_free_control_group", lambda: None)
    assert memory.available_memory() == 8 * 2**30
    monkeypatch.setattr(memory, "_free_host", lambda: None)
    assert memory.available_memory() is None
    memory.check_memory(10**6, 10**6, 3, 4)  # a machine that does not say is not refused


def control_group(folder, limit, used, names, cached):
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used, f"anon 5\n{names[2]} {cached}\n"), strict=True):
        (folder / ("memory.stat" if "inactive" in name else name)).write_text(f"{value}\n")


V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


def test_the_limit_of_a_job_is_found_wherever_it_was_set(tmp_path):
    own = tmp_path / "cgroup"
    own.write_text("0::/slurm/job_7/step_0\n")
    ask = functools.partial(memory._free_control_group, tmp_path / "fs", own)
    assert ask() is None
    control_group(tmp_path / "fs/slurm/job_7/step_0", "max", 900, V2, 0)
    assert ask() is None
    control_group(tmp_path / "fs/slurm/job_7", 5000, 1500, V2, 400)  # files in the cache make room at once
    assert ask() == 5000 - 1100
    control_group(tmp_path / "fs/slurm", 9000, 8500, V2, 0)
    assert ask() == 500
    control_group(tmp_path / "fs", 100, 300, V2, 0)
    assert ask() == 0


def test_the_limit_of_an_older_kernels_container(tmp_path):
    own = tmp_path / "cgroup"
    own.write_text("5:devices:/a\n4:memory:/docker/a\n0::/\n")
    control_group(tmp_path / "fs/memory", 2**63 - 4096, 700, V1, 0)
    control_group(tmp_path / "fs/memory/docker/a", 4000, 2000, V1, 1000)
    assert memory._free_control_group(tmp_path / "fs", own) == 3000


def test_what_does_not_fit_is_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda device: 2**30)
    with pytest.raises(ImageError, match=r"10000×10000 px ×2 needs about 3\.\d GiB of memory, 1\.0 GiB are free; crop"):
        memory.check_memory(10_000, 10_000, 3, 2.0)
    memory.check_memory(200, 200, 3, 2.0)


def test_what_a_jpeg_lost_is_treated_as_noise_and_said(save, bicubic_only):
    samples = np.asarray(data.astronaut()[20:68, 200:240])
    compressed, lossless = (upscale_photo(save(samples, name)) for name in ("photo.jpg", "plain.png"))
    assert compressed.upscaled.settings.zssr.noise_sigma > 1 / 255
    assert any("JPEG compression of about" in note for note in compressed.notes)
    assert lossless.upscaled.settings.zssr.noise_sigma is None


def test_a_noise_level_that_was_asked_for_beats_the_jpeg(save, bicubic_only):
    asked = Settings(zssr=StartConfig(noise_sigma=0.0))
    result = upscale_photo(save(np.asarray(data.astronaut()[20:68, 200:240]), "photo.jpg"), asked)
    assert result.upscaled.settings.zssr.noise_sigma == 0.0
