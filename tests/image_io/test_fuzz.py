"""A small run of the campaign in benchmarks/fuzz_readers.py: broken files are read or refused in words."""

import random
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

from fuzzing.mutations import mutate
from fuzzing.seeds import seeds
from fuzzing.targets import ReaderError, attempt

SEEDS = seeds()
EACH = 8


@pytest.mark.parametrize("name", SEEDS)
def test_the_seed_itself_is_read(tmp_path, name):
    path = tmp_path / f"input.{name.rpartition('.')[2]}"
    path.write_bytes(SEEDS[name])
    assert attempt(name, path)[0] == "read"


@pytest.mark.parametrize("name", SEEDS)
def test_broken_files_are_read_or_refused_in_words(tmp_path, capfd, name):
    rng = random.Random(name)
    suffix = name.rpartition(".")[2]
    others = [data for other, data in SEEDS.items() if other.endswith(suffix)]
    path = tmp_path / f"input.{suffix}"
    for _ in range(EACH):
        path.write_bytes(mutate(SEEDS[name], name, rng, rng.choice(others)))
        attempt(name, path)
    assert capfd.readouterr() == ("", "")


def test_the_campaign_finds_a_reader_that_lets_an_error_pass(tmp_path, monkeypatch):
    from fuzzing import targets

    def careless(_path):
        raise KeyError("a defect")

    monkeypatch.setitem(targets.READERS, "png", careless)
    with pytest.raises(ReaderError, match="KeyError"):
        attempt("a.png", tmp_path / "a.png")
