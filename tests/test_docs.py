"""The documentation is true: its code runs, its commands and options exist, its links lead somewhere.

In a page, `<!-- skip: REASON -->` before a block leaves it out, and `<!-- file: NAME -->` writes it to a file.
"""

import functools
import importlib.util
import itertools
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import blindsr
from blindsr.cli.main import cli
from blindsr.image_io.formats import FORMATS
from blindsr.registry import ESTIMATORS, UPSCALERS
from blindsr.settings import preset

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "examples/README.md"))]
)
NOTES = ROOT / "docs" / "notes"  # describe the past: their commands need not run
GUIDES = [page for page in PAGES if NOTES not in page.parents]
# Options of other programs that the pages name on their own.
FOREIGN_OPTIONS = {"--nthreads", "--nworkers", "--resources", "--lifetime", "--index-url"}
METHODS = {*ESTIMATORS.names(), *UPSCALERS.names()}
RUNNING_COMMANDS = {"estimate-and-upscale", "upscale", "estimate-kernel", "ablate"}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# --- Reading the pages ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Block:
    """A fenced block of code: its language, text, line in the page, and what the comment before it asks for."""

    language: str
    text: str
    line: int
    skipped: bool
    file: str | None


BLOCK = re.compile(
    r"(?:^<!-- (?P<order>skip|file): (?P<what>[^>]*?) -->\n+)?^```(?P<language>[\w-]*)\n(?P<text>.*?)^```$", re.M | re.S
)


def blocks(page: Path) -> list[Block]:
    source = page.read_text(encoding="utf-8")
    return [
        Block(
            language=found["language"],
            text=found["text"],
            line=source.count("\n", 0, found.start("text")) + 1,
            skipped=found["order"] == "skip",
            file=found["what"] if found["order"] == "file" else None,
        )
        for found in BLOCK.finditer(source)
    ]


def console_commands(block: Block) -> Iterator[list[str]]:
    """The lines of a console block that call blindsr, without prompt and comment, as words."""
    for line in block.text.splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words[:1] == ["blindsr"]:
            yield words[1:]


def named_commands(page: Path) -> Iterator[list[str]]:
    """Every call of blindsr that a page shows, in blocks and in running text, and options named on their own."""
    source = page.read_text(encoding="utf-8")
    for block in blocks(page):
        if block.language in ("console", "bash"):
            yield from (["blindsr", *words] for words in console_commands(block))
    text = BLOCK.sub("", source)
    for span in re.findall(r"`([^`]+)`", text):
        words = span.split()
        if words[0] == "blindsr" or words[0].startswith("--"):
            yield words


# --- The command line ----------------------------------------------------------------------------------------------


@functools.cache
def help_of(*path: str) -> str:
    shown = CliRunner().invoke(cli, [*path, "--help"], prog_name="blindsr")
    return shown.stdout if shown.exit_code == 0 else ""


@functools.cache
def options_of(*path: str) -> frozenset[str]:
    return frozenset(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", help_of(*path)))


@functools.cache
def subcommands_of(*path: str) -> tuple[str, ...]:
    command = functools.reduce(lambda group, name: group.get_command(None, name), path, cli)
    return tuple(command.list_commands(None)) if hasattr(command, "list_commands") else ()


def command_paths() -> list[tuple[str, ...]]:
    top = [(name,) for name in subcommands_of()]
    return [(), *top, *((*path, name) for path in top for name in subcommands_of(*path))]


def unknown_words(words: list[str]) -> list[str]:
    """What of a call does not exist: a command, or its options."""
    if words[0] != "blindsr":
        known = {option for path in command_paths() for option in options_of(*path)} | FOREIGN_OPTIONS
        return [word for word in words if word.startswith("--") and bare(word) not in known]
    path: tuple[str, ...] = ()
    for word in words[1:]:
        if word not in subcommands_of(*path):
            break
        path = (*path, word)
    rest = words[1 + len(path) :]
    placeholder = not rest or rest[0] in ("…", "COMMAND") or rest[0].startswith("--")
    if subcommands_of(*path) and not placeholder:
        return [f"blindsr {' '.join([*path, rest[0]])}"]
    return [word for word in rest if re.match(r"--?[a-z]", word) and bare(word) not in options_of(*path)]


def bare(word: str) -> str:
    return re.match(r"--?[A-Za-z0-9-]+", word)[0].rstrip("-")


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_commands_and_options_exist(page: Path):
    unknown = {f"{word} (in: {' '.join(words)})" for words in named_commands(page) for word in unknown_words(words)}
    assert not unknown, f"{name_of(page)} names what does not exist: {sorted(unknown)}"


@pytest.mark.parametrize(
    ("call", "unknown"),
    [
        ("blindsr upscale photo.jpg --kernel bicubic", []),
        ("blindsr kernel show k.npz --no-such-option", ["--no-such-option"]),
        ("blindsr no-such-command", ["blindsr no-such-command"]),
        ("blindsr kernel no-such-command", ["blindsr kernel no-such-command"]),
        ("--no-such-option 3", ["--no-such-option"]),
        ("--region X,Y,W,H", []),
    ],
)
def test_unknown_commands_and_options_are_found(call: str, unknown: list[str]):
    assert unknown_words(call.split()) == unknown


# --- Links ---------------------------------------------------------------------------------------------------------

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.M)
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in headings)
    return {re.sub(r"[\s-]+", "-", heading) for heading in plain}


def broken_links(page: Path) -> list[str]:
    broken = []
    for target in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        address, _, anchor = target.partition("#")
        if "://" in address:
            continue
        path = page.parent / unquote(address) if address else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            broken.append(target)
    return broken


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path):
    assert broken_links(page) == []


def test_broken_links_are_found(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text("# One\n[a](page.md#one) [b](page.md#two) [c](gone.md) ![d](gone.png) [e](https://example.org)\n")
    assert broken_links(page) == ["page.md#two", "gone.md", "gone.png"]


def test_pages_that_the_code_names_exist():
    sources = itertools.chain.from_iterable((ROOT / f).rglob("*.py") for f in ("blindsr", "tests", "benchmarks"))
    named = {
        (page, name_of(source))
        for source in sources
        if source != Path(__file__)
        for page in re.findall(r"\bdocs/[\w./-]+\.md\b", source.read_text(encoding="utf-8"))
    }
    assert {(page, source) for page, source in named if not (ROOT / page).is_file()} == set()
    assert named


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_the_demo_says_how_long_it_takes_and_shows_what_the_command_shows():
    arguments = ["make", "-n", "demo", "PHOTO=mine.jpg", "SCALE=3"]
    shown = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    command = shlex.split(shown[shown.index("/blindsr estimate-and") :].partition("\necho")[0])
    assert "Enlarging mine.jpg: the example takes some seconds" in shown
    assert command[1:7] == ["estimate-and-upscale", "mine.jpg", "--scale", "3", "--force", "--verbose"]
    assert "--quiet" not in command


def test_every_page_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    names = {page.relative_to(ROOT / "docs").as_posix() for page in (ROOT / "docs").rglob("*.md")}
    assert {name for name in names if name not in navigation} == set()


# --- Code that runs ------------------------------------------------------------------------------------------------


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_network: None) -> Iterator[Path]:
    """A folder with the files that the guides name, all of them small, and a small network."""
    photograph = Image.open(ROOT / "examples" / "chelsea.png").convert("RGB")
    crop = photograph.crop((140, 90, 204, 138))
    for folder in ("photos", "holidays", "examples"):
        (tmp_path / folder).mkdir()
    for name in ("photo.jpg", "photo.png", "photos/one.png", "holidays/two.jpg"):
        crop.save(tmp_path / name)
    crop.save(tmp_path / "film.gif", save_all=True, append_images=[crop.rotate(180)], duration=100)
    crop.save(tmp_path / "stack.tif", save_all=True, append_images=[crop.rotate(180)])
    photograph.crop((140, 90, 228, 156)).save(tmp_path / "examples" / "chelsea.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    # The guides name the preset `default`, which takes too long for a test.
    monkeypatch.setattr("blindsr.api.named_preset", lambda name: preset("fast" if name == "default" else name))
    yield tmp_path
    # What a guide registered must not be there in other tests.
    for registry in (ESTIMATORS, UPSCALERS):
        for name in set(registry.names()) - METHODS:
            registry.unregister(name)


def run_console(words: list[str]) -> str:
    """Run a call as a shell would, with `< FILE` and `> FILE`; one thread, and `fast` unless a preset is named."""
    data, output = None, None
    for sign in ("<", ">"):
        if sign in words:
            at = words.index(sign)
            data = Path(words[at + 1]).read_bytes() if sign == "<" else data
            output = Path(words[at + 1]) if sign == ">" else output
            del words[at : at + 2]
    if words[0] in RUNNING_COMMANDS:
        words += ["--threads", "1"]
        words += [] if "--preset" in words else ["--preset", "fast"]
    result = CliRunner().invoke(cli, words, input=data, prog_name="blindsr", catch_exceptions=False)
    assert result.exit_code == 0, f"blindsr {shlex.join(words)}: {result.stderr or result.output}"
    if output is not None:
        output.write_bytes(result.stdout_bytes)
    return result.stdout


def run_page(page: Path, namespace: dict[str, object]) -> int:
    """Run the blocks of a page in their order; returns how many."""
    count = 0
    for block in blocks(page):
        if block.file is not None:
            path = Path(block.file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif not block.skipped and block.language == "console":
            printed = [run_console(words) for words in console_commands(block)]
            shown = [line for line in block.text.splitlines() if not line.startswith("$ ")]
            if shown:
                assert "".join(printed).split() == "\n".join(shown).split()
            count += len(printed)
        elif not block.skipped and block.language == "python":
            # Line numbers of the page, so that a failure points to it.
            exec(compile("\n" * (block.line - 1) + block.text, name_of(page), "exec"), namespace)
            count += 1
    return count


RUNNING = [page for page in GUIDES if any(b.language in ("console", "python") and not b.skipped for b in blocks(page))]


@pytest.mark.parametrize("page", RUNNING, ids=name_of)
@pytest.mark.usefixtures("workshop")
def test_guide_runs(page: Path):
    image = np.asarray(Image.open("photo.png"))
    run_page(page, {"__name__": "guide", "image": image})


def test_the_guides_have_code():
    assert {"README.md", "docs/tutorial.md", "docs/extending.md"} <= {name_of(page) for page in RUNNING}


@pytest.mark.usefixtures("workshop")
def test_a_guide_that_fails_is_found():
    page = ROOT / "docs" / "index.md"
    block = Block(language="python", text="assert 1 == 2\n", line=3, skipped=False, file=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(globals(), "blocks", lambda _: [block])
        with pytest.raises(AssertionError):
            run_page(page, {})
        patch.setitem(globals(), "blocks", lambda _: [Block("console", "$ blindsr upscale\n", 3, False, None)])
        with pytest.raises(AssertionError, match="blindsr upscale"):
            run_page(page, {})


# --- Text that is generated ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    specification = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_generated_tables_name_every_method(hooks: ModuleType):
    methods = hooks.generate((ROOT / "docs" / "reference" / "methods.md").read_text(encoding="utf-8"))
    for name in itertools.chain(blindsr.list_estimators(), blindsr.list_upscalers()):
        assert f"| `{name}` |" in methods


def test_generated_settings_name_fields_with_defaults_and_meaning(hooks: ModuleType):
    settings = hooks.generate("<!-- generated: settings -->")
    assert re.search(r"^\| `iterations` \| `3000` \| .*step", settings, re.M)


def test_generated_formats_name_every_suffix(hooks: ModuleType):
    table = hooks.generate("<!-- generated: formats -->")
    for suffix in itertools.chain.from_iterable(row.suffixes for row in FORMATS if row.codec):
        assert suffix in table


def test_the_generated_command_line_has_every_command(hooks: ModuleType):
    page = hooks.generate("<!-- generated: cli -->")
    for path in command_paths():
        assert f"## `{' '.join(['blindsr', *path])}`" in page


def test_every_marker_is_known(hooks: ModuleType):
    markers = {name for page in PAGES for name in hooks.MARKER.findall(page.read_text(encoding="utf-8"))}
    assert markers == set(hooks.GENERATED)


# --- Figures -------------------------------------------------------------------------------------------------------


def test_the_gallery_states_what_its_script_measured():
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    measured = json.loads((ROOT / "benchmarks" / "gallery.json").read_text(encoding="utf-8"))["pictures"]
    captions = dict(re.findall(r"\(images/gallery/(\w+)\.jpg\)(.*?)(?=\n#)", page, re.S))
    assert list(captions) == list(measured)
    for name, picture in measured.items():
        stated = [float(figure) for figure in re.findall(r"(\d+\.\d\d) dB", captions[name])]
        assert stated == list(picture.get("psnr_y", {}).values()), name
        assert (ROOT / "docs" / "images" / "gallery" / f"{name}.jpg").stat().st_size == picture["bytes"] <= 60_000


# --- Packaging -----------------------------------------------------------------------------------------------------

# Names on conda-forge that differ from those on PyPI.
ON_CONDA = {"torch": "pytorch", "lazy_loader": "lazy-loader"}


def test_the_conda_recipe_and_the_citation_agree_with_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    recipe = (ROOT / "conda" / "recipe.yaml").read_text(encoding="utf-8")
    run = re.search(r"^  run:\n((?:    - .*\n)+)", recipe, re.M)[1].replace(" ", "")
    needed = (re.fullmatch(r"([\w-]+)(>=.*)", requirement).groups() for requirement in project["dependencies"])
    expected = ["python>=${{python_min}}", *(ON_CONDA.get(name, name) + bound for name, bound in needed)]
    assert run.splitlines() == [f"-{requirement}" for requirement in expected]
    assert f'python_min: "{project["requires-python"].removeprefix(">=")}"' in recipe
    assert f'version: "{blindsr.__version__}"' in recipe
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {blindsr.__version__}\n" in citation
    newest = re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)[1]
    if ".dev" in blindsr.__version__:
        assert newest == "[Unreleased]"
        assert "date-released" not in citation
    else:
        released = re.search(r"^date-released: \"(.+)\"$", citation, re.M)[1]
        assert newest == f"[{blindsr.__version__}] - {released}"


def test_the_figures_of_the_readme_are_those_of_the_method_page():
    def rows(page: str) -> list[list[str]]:
        text = (ROOT / page).read_text(encoding="utf-8")
        return [re.findall(r"[+−]?\d+\.\d\d", line) for line in text.splitlines() if line.startswith("| ")]

    figures = rows("docs/method/learned-kernel.md")
    quality = [row for row in rows("README.md") if row]
    assert len(quality) == 6
    assert [row for row in quality if row not in figures] == []


def test_the_image_is_built_from_files_that_are_sent_to_docker():
    sent = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = re.findall(r"^COPY (.+) \S+$", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.M)
    assert copied
    for name in " ".join(copied).split():
        assert f"!{name}" in sent
        assert (ROOT / name).exists()


def test_the_installation_names_every_extra():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    table = re.findall(r"^\| (`.+?`) \|", (ROOT / "docs" / "install.md").read_text(encoding="utf-8"), re.M)
    assert sorted(re.findall(r"`(\w+)`", " ".join(table))) == sorted(project["optional-dependencies"])
