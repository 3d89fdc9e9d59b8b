from dataclasses import dataclass
from pathlib import Path

import click
import pytest
from PIL import Image

from blindsr.cli.options import Options, toml_keys
from blindsr.cli.settings import kernel_scale, load_known_kernel, make_run
from blindsr.cli.types import OutputPath
from blindsr.errors import ConfigError, KernelError
from blindsr.image_io import FileOptions
from blindsr.registry import UPSCALERS
from blindsr.settings import DIALS, Region, Settings, preset
from blindsr.upscalers.pretrained.weights import BUNDLED


@pytest.fixture
def make(tmp_path):
    def build(text=None, **options):
        path = None
        if text is not None:
            path = tmp_path / "run.toml"
            path.write_text(text, encoding="utf-8")
        return make_run(Options(config=path, **options))

    return build


def test_without_options_it_is_the_default_preset(make):
    run = make()
    assert run.settings == preset("default")
    assert run.settings.as_dict() == Settings().as_dict()
    assert (run.device, run.threads, run.preset, run.max_memory) == ("auto", None, "default", None)


@pytest.mark.parametrize("name", ["fast", "default", "best", "paper"])
def test_a_preset_alone_is_that_preset(make, name):
    assert make(preset=name).settings == preset(name)


def test_the_file_overrides_the_preset_and_the_command_line_overrides_the_file(make):
    text = (
        '[run]\npreset = "fast"\nscale = 3\nseed = 4\nthreads = 2\nestimator = "kernelgan"\n[pretrained]\nsteps = 7\n'
    )
    run = make(text, scale=4.0, estimator="spectral")
    assert (run.settings.scale, run.settings.estimator, run.settings.seed) == (4.0, "spectral", 4)
    assert run.settings.create_upscaler().config.steps == 7
    assert run.threads == 2
    assert make(text, threads=1).threads == 1
    assert make("[run]\nscale = 3\n", size=(90, 80)).settings.size == (90, 80)
    assert make("[run]\nsize = [90, 80]\n", scale=2.0).settings.size is None


def test_every_key_of_run_changes_the_run(make):
    plain = make("")
    values = {
        "scale": "3",
        "size": "[100, 90]",
        "preset": '"fast"',
        "estimator": '"kernelgan"',
        "upscaler": '"bicubic"',
        "init": '"random"',
        "zssr_setting": '"real"',
        "region": "[1, 2, 30, 40]",
        "varying": "true",
        "align_colors": "false",
        "kernel_width": "0.9",
        "strength": "0.5",
        "denoise": "0.5",
        "halo": "0.5",
        "noise": "5",
        "device": '"cpu"',
        "seed": "9",
        "threads": "1",
        "precision": '"fp32"',
        "max_memory": '"4GB"',
    }
    assert set(values) == set(toml_keys("run"))
    for key, value in values.items():
        assert make(f"[run]\n{key} = {value}\n") != plain, key


def test_every_key_of_files_changes_the_run_and_options_override_it(make):
    text = '[files]\nformat = "jpeg"\nquality = 80\npage = 2\nalpha = "data"\nstrip_metadata = true\n'
    text += 'max_pixels = "500M"\n'
    expected = FileOptions(format="jpeg", quality=80, page=2, alpha="data", strip_metadata=True, max_pixels=500_000_000)
    assert make(text).files == expected
    assert set(toml_keys("files")) == {"format", "quality", "page", "alpha", "strip_metadata", "max_pixels"}
    assert make("").files == make().files == FileOptions()
    assert make("[files]\nmax_pixels = 7\n").files.max_pixels == 7
    other = {"output_format": "webp", "quality": 90, "page": 3, "strip_metadata": False, "max_pixels": 9}
    other |= {"alpha": "coverage"}
    assert make(text, **other).files == FileOptions(format="webp", quality=90, page=3, max_pixels=9)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"output": OutputPath(Path("a.jpg"))}, FileOptions(quality=80)),
        ({"output": OutputPath(Path("a.PNG"))}, FileOptions()),
        ({"output_format": "tiff"}, FileOptions(format="tiff")),
        ({"output": OutputPath(Path("folder"), is_folder=True)}, FileOptions(format="heic", quality=80)),
        ({"output": OutputPath(Path("a.png"), is_folder=True)}, FileOptions(format="heic", quality=80)),
        ({"output": OutputPath(Path("a.png")), "quality": 70}, FileOptions(quality=70)),
    ],
)
def test_a_name_on_the_command_line_overrides_the_format_of_the_file(make, options, expected):
    assert make('[files]\nformat = "heic"\nquality = 80\n', **options).files == expected


def test_dials_on_the_command_line_override_those_of_the_file(make):
    text = "[run]\nkernel_width = 2\nstrength = 0.5\ndenoise = 0\nhalo = 0.5\n"
    settings = make(text, denoise="auto", halo=1.0).settings
    assert [getattr(settings, name) for name in DIALS] == [2, 0.5, "auto", 1.0]
    assert settings.without_dials == make().settings
    with pytest.raises(ConfigError, match=r"\[run\] halo: .*needs auto or a number from 0 to 1, got 'none'"):
        make('[run]\nhalo = "none"\n')


def test_memory_is_an_amount_in_the_file_too(make):
    text = '[run]\nmax_memory = "1.5 GiB"\n'
    assert make(text).max_memory == 3 * 2**29
    assert make(text, max_memory=9).max_memory == 9


def test_tables_reach_their_methods(make):
    text = (
        "[spectral]\ntile = 32\n[kernelgan]\niterations = 10\ngenerator_filters = [7, 5, 3]\n"
        '[run]\ninit = "random"\n[pretrained]\nbatch = 3\n[zssr]\nmax_steps = 5\nback_projections = [1]\n'
        "[auto.learned]\nviews = 4\n"
    )
    configs = make(text).settings.configs
    assert configs["spectral"].tile == 32
    assert configs["auto"].learned.views == 4
    assert (configs["kernelgan"].iterations, configs["kernelgan"].generator_filters) == (10, (7, 5, 3))
    assert (configs["pretrained"].batch, configs["pretrained"].random_weights) == (3, True)
    assert (configs["zssr"].max_steps, configs["zssr"].back_projections) == (5, (1,))


def test_a_name_that_an_estimator_and_an_upscaler_share_has_settings_of_both(make):
    settings = make('[run]\nestimator = "bicubic"\n[bicubic]\n').settings
    assert type(settings.create_estimator().config).__name__ == "FixedConfig"
    assert make('[run]\nestimator = "bicubic"\nupscaler = "bicubic"\n[bicubic]\n').settings.create_upscaler()


def test_a_file_of_weights_is_read_by_the_upscaler_that_names_it(make, tmp_path, monkeypatch):
    @dataclass(frozen=True)
    class Config:
        weights: Path = tmp_path / "other.pt"  # no weights of the pretrained network

    method = type("Other", (), {"config_type": Config, "__init__": lambda self, config: None, "config": Config()})
    monkeypatch.setitem(UPSCALERS._added, "other", method)
    assert make(upscaler="other").settings.create_upscaler().config.weights == tmp_path / "other.pt"


def test_a_table_of_a_preset_changes_that_presets_settings(make):
    zssr = make('[run]\npreset = "paper"\n[zssr]\nmax_steps = 5\n').settings.create_upscaler().config
    assert (zssr.max_steps, zssr.setting) == (5, preset("paper").create_upscaler().config.setting)


def test_nested_arrays_become_tuples(make):
    text = '[run]\nzssr_setting = "given"\n[zssr]\ngradual_steps = [[1, 1.5], [2, 2]]\nback_projections = [2, 2]\n'
    settings = make(text).settings
    assert settings.upscaler == "zssr"
    assert settings.create_upscaler().config.gradual_steps == ((1.0, 1.5), (2.0, 2.0))


def test_initial_weights(make):
    assert make(init="random").settings.create_upscaler().config.random_weights
    assert not make(init="pretrained").settings.create_upscaler().config.random_weights
    assert make(init="leaves").settings.create_upscaler().config.weights == Path("leaves")
    file = BUNDLED["leaves"]
    assert make(init=str(file)).settings.create_upscaler().config.weights == file
    text = f'[pretrained]\nweights = "{file}"\n'
    assert make(text).settings.create_upscaler().config.weights == file
    for options in ({"init": "none.safetensors"}, {"text": text.replace(file.name, "none.safetensors")}):
        with pytest.raises(ConfigError, match=r"must be a safetensors file .*none\.safetensors: No such file or dir"):
            make(**options)


def test_region_noise_and_factors(make):
    assert make("[run]\nregion = [1, 2, 30, 40]\n").settings.region == Region(x=1, y=2, width=30, height=40)
    assert make(noise=51.0).settings.noise_sigma == 0.2
    assert make(noise=0.0).settings.noise_sigma == 0.0
    assert make().settings.noise_sigma is None
    assert make("[run]\nscale = [2, 3]\n").settings.factors == (2.0, 3.0)
    assert make('[run]\nscale = "2x3"\n').settings.factors == (2.0, 3.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[zsr]\nsteps = 1\n",
            r"run\.toml has an unknown table 'zsr'; tables are \[run\], \[files\], \[auto\], \[spectral\]",
        ),
        ("steps = 1\n", r"unknown key outside of a table 'steps'"),
        ("zssr = 1\n", r"unknown key outside of a table 'zssr'"),
        ("[run]\nscal = 2\n", r"^run\.toml: \[run\] has no key 'scal' \(did you mean 'scale'\?"),
        ("[run]\nzzz = 2\n", r"\[run\] has no key 'zzz'; its keys are scale, size, preset, "),
        ("[run]\npage = 2\n", r"\[run\] has no key 'page'; it belongs to \[files\]"),
        ("[files]\nhalo = 0\n", r"\[files\] has no key 'halo'; it belongs to \[run\]"),
        ("[run]\nstart = 2\n", r"\[run\] has no key 'start'"),
        ("[spectral]\ntiles = 2\n", r"\[spectral\] has no key 'tiles' \(did you mean '(max_tiles|tile)'"),
        ("[auto.learned]\ntiles = 2\n", r"\[auto\.learned\] has no key 'tiles'"),
        ("[kernelgan]\niteration = 2\n", r"\[kernelgan\] has no key 'iteration' \(did you mean 'iterations'"),
        ("[bicubic]\nsteps = 2\n", r"\[bicubic\] has no key 'steps'"),
        ("[zssr]\nseed = 2\n", r"\[zssr\] seed holds for the whole run; write \[run\] seed instead"),
        ('[pretrained]\nprecision = "fp32"\n', r"\[pretrained\] precision holds for the whole run"),
        ("[pretrained]\nsteps = 2.5\n", r"\[pretrained\] steps must be a whole number, got 2\.5"),
        ("[pretrained]\nsteps = true\n", r"\[pretrained\] steps must be a whole number, got True"),
        ('[pretrained]\nlearning_rate = "fast"\n', r"\[pretrained\] learning_rate must be a number, got 'fast'"),
        ("[pretrained]\nrandom_weights = 1\n", r"\[pretrained\] random_weights must be true or false, got 1"),
        ("[kernelgan]\ngenerator_filters = 3\n", r"generator_filters must be an array of values, each a whole number"),
        ("[run]\nscale = [2]\n", r"\[run\] scale: .*needs a number from 1"),
        ("[run]\nscale = 9\n", r"\[run\] scale: .*needs a number from 1 \(deblurring\) to 8"),
        ("[run]\nscale = 2\nsize = [9, 9]\n", r"run\.toml: \[run\] scale and \[run\] size exclude each other"),
        ("[run]\nregion = [1, 2, 30]\n", r"\[run\] region: .*four whole numbers"),
        ("[run]\ndevice = 1\n", r"\[run\] device must be a text, got 1"),
        ("[run]\nseed = true\n", r"\[run\] seed must be a whole number, got True"),
        ('[run]\npreset = "slow"\n', r"\[run\] preset: .*'slow' is not one of 'fast', 'default', 'best', 'paper'"),
        ('[run]\nestimator = "nope"\n', r"\[run\] estimator: .*'nope' is not one of 'auto', 'spectral'"),
        ("[pretrained]\nsteps = -1\n", r"^run\.toml: \[pretrained\] steps must be 0 or more"),
        ("[auto.learned]\nviews = 3\n", r"^run\.toml: \[auto\.learned\] views must be 1, 2, 4 or 8"),
        ('[run]\ninit = "random"\n[pretrained]\nweights = "a.safetensors"\n', r"random"),
        ('[run]\ninit = "random"\npreset = "paper"\n', r"the published ZSSR begins with random weights"),
        ("[run]\nscale = true\n", r"\[run\] scale"),
        ("[run]\nmax_memory = 4\n", r"\[run\] max_memory: .*an amount of memory with its unit, got 4"),
        ('[run]\nupscaler = "bicubic"\nzssr_setting = "real"\n', r"--upscaler is bicubic"),
        ('[run]\nmax_memory = "much"\n', r"\[run\] max_memory: .*an amount of memory, got 'much'"),
        ("[run]\nmax_memory = 0\n", r"\[run\] max_memory: .*an amount of memory, got 0"),
        ('[files]\nmax_pixels = "many"\n', r"\[files\] max_pixels: .*a number of pixels, got 'many'"),
        ("[files]\nqualty = 80\n", r"^run\.toml: \[files\] has no key 'qualty' \(did you mean 'quality'"),
        ("[files]\nquality = 101\n", r"\[files\] quality: .*needs a whole number from 1 to 100, got '101'"),
        ('[files]\nformat = "bmp"\n', r"\[files\] format: .*'bmp' is not one of 'png', 'tiff'"),
        ('[files]\nstrip_metadata = "yes"\n', r"\[files\] strip_metadata must be true or false, got 'yes'"),
        ("[run\n", r"run\.toml is not valid TOML: .*line 1.*; correct the file there"),
    ],
)
def test_what_is_wrong_in_a_file_is_reported_with_its_place(make, text, message):
    with pytest.raises(ConfigError, match=message):
        make(text)


def test_a_file_that_is_no_text_is_reported(tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"x\.toml cannot be read as text"):
        make_run(Options(config=path))


def test_precision_reaches_the_upscaler_that_has_one(make):
    assert make('[run]\nprecision = "fp32"\n').settings.create_upscaler().config.precision == "fp32"
    assert make(precision="bf16", preset="paper").settings.create_upscaler().config.precision == "bf16"
    assert make(precision="bf16", upscaler="bicubic").settings.upscaler == "bicubic"


def test_the_factor_of_a_known_kernel_depends_on_the_photographs_where_a_size_is_given(make, tmp_path):
    for name, side in (("a.png", 40), ("b.png", 48)):
        Image.new("RGB", (side, side)).save(tmp_path / name)
    size = make(size=(100, 0)).settings
    assert kernel_scale(make(scale=2.5).settings, [tmp_path / "no.png"]) == 3
    assert kernel_scale(size, [tmp_path / "a.png"]) == 3
    assert kernel_scale(size, [tmp_path]) == 3
    with pytest.raises(ConfigError, match="needs ×2 and ×3 for these images"):
        kernel_scale(make(size=(96, 0)).settings, [tmp_path])
    with pytest.raises(ConfigError, match=r"no\.png does not; check the name"):
        kernel_scale(size, [tmp_path / "no.png"])
    with pytest.raises(click.UsageError, match="with - use --scale"):
        kernel_scale(size, [Path("-")])


def test_a_kernel_in_words_that_is_wrong_is_a_usage_error_and_a_file_that_is_wrong_is_an_error(tmp_path):
    with pytest.raises(click.BadParameter, match="SIGMA"):
        load_known_kernel(Options(kernel="gaussian:"), 2)
    with pytest.raises(click.BadParameter, match="missing"):
        load_known_kernel(Options(kernel=str(tmp_path / "k.npz")), 2)
    (tmp_path / "k.npz").write_bytes(b"nothing")
    with pytest.raises(KernelError, match=r"k\.npz"):
        load_known_kernel(Options(kernel=str(tmp_path / "k.npz")), 2)
    with pytest.raises(click.BadParameter, match="a kernel is needed, got an empty text; give a file"):
        load_known_kernel(Options(kernel=""), 2)
    with pytest.raises(click.UsageError, match="a known kernel is needed"):
        load_known_kernel(Options(), 2)
