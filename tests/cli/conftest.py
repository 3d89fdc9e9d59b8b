"""A photograph in a folder, a way to run the command line in this process, and methods that take milliseconds."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from skimage import data

from blindsr.cli.main import cli
from blindsr.pipelines import blind, files


@pytest.fixture
def photo(tmp_path):
    """40 × 48 px, RGB, 8 bits."""
    path = tmp_path / "photo.png"
    Image.fromarray(np.ascontiguousarray(data.astronaut()[20:68, 200:240])).save(path)
    return path


@pytest.fixture
def run():
    """Run `blindsr` with arguments; an internal error fails the test unless it is expected."""

    def invoke(*arguments, data=None, defect=False):
        words = [str(argument) for argument in arguments]
        result = CliRunner().invoke(cli, words, input=data, prog_name="blindsr", catch_exceptions=False)
        assert result.exit_code != 70 or defect, result.stderr
        return result

    return invoke


@pytest.fixture
def quick(run):
    """`blindsr estimate-and-upscale` with the bicubic kernel and bicubic interpolation."""

    def invoke(*arguments, **options):
        methods = ("--estimator", "bicubic", "--upscaler", "bicubic")
        return run("estimate-and-upscale", *methods, *arguments, **options)

    return invoke


@pytest.fixture
def known(run):
    """`blindsr upscale` by bicubic interpolation; the kernel is one of the arguments."""

    def invoke(*arguments, data=None):
        return run("upscale", "--upscaler", "bicubic", *arguments, data=data)

    return invoke


class Spy:
    """Calls of a function, which is called all the same; `error` is raised instead, if there is one."""

    def __init__(self, function):
        self.function, self.calls, self.error = function, [], None

    def __call__(self, *args, **kwargs):
        self.calls.append((args, kwargs))
        if self.error is not None:
            raise self.error
        return self.function(*args, **kwargs)


@pytest.fixture
def spy(monkeypatch):
    """Replace an attribute by a `Spy` on it."""

    def replace(owner, name):
        replaced = Spy(getattr(owner, name))
        monkeypatch.setattr(owner, name, replaced)
        return replaced

    return replace


@pytest.fixture
def upscaled(spy):
    """The calls of `upscale_file`."""
    return spy(files, "upscale_file")


@pytest.fixture
def applied(spy):
    """The calls of `blind.apply`, which is the work after everything has been checked and estimated."""
    return spy(blind, "apply")
