import importlib.util

import pytest

from blindsr.app import server
from blindsr.cli.commands import app
from blindsr.errors import ConfigError


@pytest.fixture
def served(monkeypatch, spy):
    """The calls of `serve`, which only says that the page can be opened."""
    found = importlib.util.find_spec
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: name if name == "gradio" else found(name))

    def serve(options, *, started, open_browser):
        started(server.address_of(options, 7860))

    monkeypatch.setattr(server, "serve", serve)
    return spy(server, "serve")


def test_without_the_extra_one_line_says_what_to_install(run, monkeypatch):
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: None)
    result = run("app")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == 'error: the page needs Gradio: pip install "blindsr[app]"\n'


def test_the_address_is_printed_and_a_browser_opened(run, served):
    result = run("app")
    assert result.stdout == "http://127.0.0.1:7860/\n"
    assert result.stderr == "Open the address in a browser; end with Ctrl-C.\n"
    (((options,), arguments),) = served.calls
    assert arguments["open_browser"]
    assert options == server.AppOptions()


def test_options_reach_the_server(run, served):
    result = run("app", "--no-browser", "--port", 0, "--max-upload", "1GB", "--threads", 2, "--device", "cpu", "-q")
    assert (result.stdout, result.stderr) == ("http://127.0.0.1:7860/\n", "")
    (((options,), arguments),) = served.calls
    assert not arguments["open_browser"]
    assert options == server.AppOptions(port=0, max_upload=2**30, threads=2, device="cpu")


def test_another_host_prints_the_address_with_its_token_and_a_warning(run, served):
    result = run("app", "--host", "0.0.0.0")
    token = served.calls[0][0][0].token
    assert result.stdout.endswith(f":7860/?token={token}\n")
    assert "reached from other machines" in result.stderr
    assert run("app", "--host", "0.0.0.0", "--token", "chosen-token").stdout.endswith("?token=chosen-token\n")


@pytest.mark.parametrize(
    ("words", "code"),
    [(("--max-upload", "much"), 2), (("--port", 70000), 2), (("--token", "short"), 1), (("photo.jpg",), 2)],
)
def test_wrong_values_are_refused(run, served, words, code):
    assert run("app", *words).exit_code == code
    assert served.calls == []


def test_an_error_of_the_server_is_one_line(run, served):
    served.error = ConfigError("port 80 of 127.0.0.1 cannot be used (Permission denied); choose another one by --port.")
    assert run("app", "--port", 80).stderr == f"error: {served.error}\n"
