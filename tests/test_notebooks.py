"""The notebooks of the documentation: their code runs, and they are stored without outputs."""

import json
import shutil
from pathlib import Path

import pytest

from blindsr.registry import ESTIMATORS

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def cells(notebook: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
@pytest.mark.usefixtures("small_network")
def test_the_code_of_a_notebook_runs(notebook, tmp_path, monkeypatch):
    (tmp_path / "docs" / "notebooks").mkdir(parents=True)
    (tmp_path / "examples").mkdir()
    shutil.copy(ROOT / "examples" / "chelsea.png", tmp_path / "examples")
    monkeypatch.chdir(tmp_path / "docs" / "notebooks")
    methods, namespace = set(ESTIMATORS.names()), {"__name__": "__main__"}
    try:
        for number, cell in enumerate(cells(notebook, "code")):
            # As in a module: a cell of IPython's own syntax (%, !) would be an error.
            exec(compile("".join(cell["source"]), f"{notebook.name}[{number}]", "exec"), namespace)
    finally:
        for name in set(ESTIMATORS.names()) - methods:
            ESTIMATORS.unregister(name)


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_no_outputs_and_words_before_its_code(notebook):
    code = cells(notebook, "code")
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert json.loads(notebook.read_text(encoding="utf-8"))["cells"][0]["source"][0].startswith("# ")
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    assert f"notebooks/{notebook.name}" in page


def test_there_are_notebooks():
    assert len(NOTEBOOKS) == 4
