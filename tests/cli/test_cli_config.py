from pathlib import Path

import pytest

from blindsr.cli._configfile import RUN_KEYS
from blindsr.cli._options import Common
from blindsr.cli._settings import make_run
from blindsr.errors import ConfigError
from blindsr.image_io import FileOptions
from blindsr.pipelines.settings import Region, Settings, preset
from blindsr.zssr.start.config import StartConfig

NOTHING = dict.fromkeys(Common.__dataclass_fields__) | {
    "force": False,
    "as_json": False,
    "quiet": False,
    "verbose": False,
}


@pytest.fixture
def make(tmp_path):
    def build(text=None, **options):
        path = None
        if text is not None:
            path = tmp_path / "run.toml"
            path.write_text(text, encoding="utf-8")
        return make_run(Common(**(NOTHING | options | {"config": path})))

    return build


def test_nothing_given_is_the_default_preset(make):
    run = make()
    assert run.settings == Settings()
    assert (run.device, run.threads) == ("auto", None)


@pytest.mark.parametrize("name", ["fast", "default", "best", "paper"])
def test_a_preset_alone_is_that_preset(make, name):
    assert make(preset=name).settings == preset(name)


def test_the_file_beats_the_preset_and_the_command_line_beats_the_file(make):
    text = '[run]\npreset = "fast"\nscale = 3\nseed = 4\nthreads = 2\nestimator = "kernelgan"\n[zssr]\nsteps = 7\n'
    run = make(text, scale=4.0, estimator="spectral")
    assert (run.settings.scale, run.settings.estimator, run.settings.seed) == (4.0, "spectral", 4)
    assert run.settings.zssr.steps == 7
    assert run.threads == 2
    assert make(text, threads=1).threads == 1


def test_every_key_of_run_changes_the_run(make):
    plain = make("")
    values = {
        "scale": "3",
        "size": "[100, 90]",
        "preset": '"fast"',
        "estimator": '"kernelgan"',
        "start": '"random"',
        "zssr_setting": '"real"',
        "region": "[1, 2, 30, 40]",
        "device": '"cpu"',
        "seed": "9",
        "threads": "1",
        "precision": '"fp32"',
        "max_memory": '"4GB"',
    }
    assert set(values) == set(RUN_KEYS)
    for key, value in values.items():
        assert make(f"[run]\n{key} = {value}\n") != plain, key


def test_the_file_says_how_pictures_are_written_and_the_command_line_beats_it(make):
    text = '[files]\nformat = "jpeg"\nquality = 80\nstrip_metadata = true\nmax_pixels = "500M"\n'
    asked = FileOptions(format="jpeg", quality=80, strip_metadata=True, max_pixels=500_000_000)
    assert make(text).files == asked
    assert make("").files == make().files == FileOptions()
    assert make("[files]\nmax_pixels = 7\n").files.max_pixels == 7
    other = {"output_format": "webp", "quality": 90, "strip_metadata": False, "max_pixels": 9}
    assert make(text, **other).files == FileOptions(format="webp", quality=90, max_pixels=9)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"output": Path("a.jpg")}, FileOptions(quality=80)),
        ({"output": Path("a.PNG")}, FileOptions()),
        ({"output_format": "tiff"}, FileOptions(format="tiff")),
        ({"output": Path("folder")}, FileOptions(format="heic", quality=80)),
        ({"output": Path("a.png"), "quality": 70}, FileOptions(quality=70)),
    ],
)
def test_a_name_on_the_command_line_beats_the_format_of_the_file(make, options, expected):
    assert make('[files]\nformat = "heic"\nquality = 80\n', **options).files == expected


def test_memory_is_an_amount_in_the_file_too(make):
    text = '[run]\nmax_memory = "1.5 GiB"\n'
    assert make(text).max_memory == 3 * 2**29
    assert make(text, max_memory=9).max_memory == 9
    assert make("[run]\nmax_memory = 7\n").max_memory == 7


def test_every_key_of_run_is_an_option_of_the_same_name():
    assert set(RUN_KEYS) <= set(Common.__dataclass_fields__)


def test_tables_reach_their_settings(make):
    text = (
        "[spectral]\ntile = 32\n[kernelgan]\niterations = 10\ngenerator_filters = [7, 5, 3]\n"
        '[run]\nstart = "random"\n[zssr]\nbatch = 3\n'
    )
    settings = make(text).settings
    assert settings.spectral.tile == 32
    assert settings.kernelgan.generator_filters == (7, 5, 3)
    assert (settings.kernelgan.iterations, settings.zssr.batch, settings.zssr.untrained) == (10, 3, True)


def test_the_zssr_table_is_that_of_the_published_zssr_when_it_is_chosen(make):
    settings = make('[run]\npreset = "paper"\n[zssr]\nmax_steps = 5\nback_projections = [1]\n').settings
    assert (settings.zssr.max_steps, settings.zssr.back_projections) == (5, (1,))
    with pytest.raises(ConfigError, match=r"\[zssr\] has no key 'steps'; did you mean 'max_steps'"):
        make('[run]\npreset = "paper"\n[zssr]\nsteps = 5\n')


def test_nested_arrays_become_tuples(make):
    text = '[run]\nzssr_setting = "given"\n[zssr]\ngradual_steps = [[1, 1.5], [2, 2]]\nback_projections = [2, 2]\n'
    assert make(text).settings.zssr.gradual_steps == ((1.0, 1.5), (2.0, 2.0))


def test_the_start_decides_which_settings_the_zssr_table_has(make):
    assert isinstance(make().settings.zssr, StartConfig)
    assert make(start="random").settings.zssr.untrained
    assert not make().settings.zssr.untrained
    assert make(start="mine.safetensors").settings.zssr.weights == Path("mine.safetensors")
    assert make('[zssr]\nweights = "mine.safetensors"\n').settings.zssr.weights == Path("mine.safetensors")


def test_a_region_is_four_numbers(make):
    assert make("[run]\nregion = [1, 2, 30, 40]\n").settings.region == Region(x=1, y=2, width=30, height=40)
    with pytest.raises(ConfigError, match=r"\[run\] region must be an array of 4 values, each a whole number, got \["):
        make("[run]\nregion = [1, 2, 30]\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "[zsr]\nsteps = 1\n",
            r"run\.toml has an unknown table 'zsr'; tables are \[run\], \[files\], \[spectral\], \[l0\], \[kernelgan\]",
        ),
        ("steps = 1\n", r"unknown key outside of a table 'steps'"),
        ("zssr = 1\n", r"unknown key outside of a table 'zssr'"),
        ("[run]\nscal = 2\n", r"\[run\] has no key 'scal'; did you mean 'scale'\?"),
        ("[run]\nzzz = 2\n", r"\[run\] has no key 'zzz'; known keys are scale, size, preset, "),
        ("[spectral]\ntiles = 2\n", r"\[spectral\] has no key 'tiles'; did you mean '(max_tiles|tile)'"),
        ("[kernelgan]\niteration = 2\n", r"\[kernelgan\] has no key 'iteration'; did you mean 'iterations'"),
        ("[zssr]\nseed = 2\n", r"\[zssr\] seed is set for the whole run; write seed into \[run\]"),
        ('[zssr]\nprecision = "fp32"\n', r"\[zssr\] precision is set for the whole run"),
        ("[zssr]\nsteps = 2.5\n", r"\[zssr\] steps must be a whole number, got 2\.5"),
        ("[zssr]\nsteps = true\n", r"\[zssr\] steps must be a whole number, got True"),
        ('[zssr]\nlearning_rate = "fast"\n', r"\[zssr\] learning_rate must be a number, got 'fast'"),
        ("[kernelgan]\ngenerator_filters = 3\n", r"generator_filters must be an array of values, each a whole number"),
        ("[run]\nscale = [2]\n", r"\[run\] scale must be a number or an array of 2 values, each a number, got \[2\]"),
        ("[run]\ndevice = 1\n", r"\[run\] device must be a text, got 1"),
        ("[run]\nscale = 9\n", r"scale must be over 1 and at most 8, got 9"),
        ('[run]\npreset = "slow"\n', r"preset must be one of fast, default, best, paper, got 'slow'"),
        ("[zssr]\nsteps = -1\n", r"steps must be 0 or more"),
        ('[run]\nstart = "random"\n[zssr]\nweights = "a.safetensors"\n', r"untrained begins from random weights"),
        ('[run]\nstart = "random"\npreset = "paper"\n', r"the published ZSSR starts from random weights"),
        ('[run]\nmax_memory = "much"\n', r"\[run\] max_memory must be an amount such as 4GB, got 'much'"),
        ("[run]\nmax_memory = 0\n", r"\[run\] max_memory must be 1 or more, got 0"),
        ('[files]\nmax_pixels = "many"\n', r"\[files\] max_pixels must be an amount such as 500M, got 'many'"),
        ("[files]\nqualty = 80\n", r"\[files\] has no key 'qualty'; did you mean 'quality'"),
        ("[files]\nquality = 101\n", r"quality must be 1 to 100, got 101"),
        ('[files]\nformat = "bmp"\n', r"format must be one of png, tiff, jpeg, webp, avif, heic, got 'bmp'"),
        ('[files]\nstrip_metadata = "yes"\n', r"\[files\] strip_metadata must be true or false, got 'yes'"),
        ("[run\n", r"run\.toml is no valid TOML: .*line 1.*; mend that line"),
    ],
)
def test_what_is_wrong_in_a_file_is_said_with_its_place(make, text, message):
    with pytest.raises(ConfigError, match=message):
        make(text)


def test_a_file_that_is_no_text_is_said(make, tmp_path):
    path = tmp_path / "x.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"x\.toml cannot be read as text"):
        make_run(Common(**(NOTHING | {"config": path})))


def test_precision_of_the_run_reaches_the_network(make):
    assert make('[run]\nprecision = "fp32"\n').settings.zssr.precision == "fp32"
    assert make(precision="bf16", preset="paper").settings.zssr.precision == "bf16"
