import asyncio
import json
import os
import socket

import pytest

from blindsr.app.server import AppOptions, Guard, address_of, bind, is_loopback
from blindsr.errors import ConfigError

TOKEN = "a-token-of-a-test"
PAGE, JOIN = "/", "/gradio_api/queue/join"


def ask(path=PAGE, *, query="", headers=(), body=b"", method="GET", **options):
    """The status, headers, and text that a guard answers; the application behind it echoes the body."""
    sent, parts = [], [{"type": "http.request", "body": body, "more_body": False}]

    async def app(scope, receive, send):
        message = await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"public")]})
        await send({"type": "http.response.body", "body": b"app:" + message["body"]})

    async def receive():
        return parts.pop(0)

    async def send(message):
        sent.append(message)

    given = {"host": "localhost:7860", **dict(headers)}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    asyncio.run(Guard(app, **options)(scope, receive, send))
    answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], answered, sent[1]["body"].decode()


@pytest.mark.parametrize("path", ["/", "/config", "/assets/index-1.js", "/download/a-key/a.png", "/gradio_api/upload"])
def test_what_the_page_uses_passes_with_a_policy_that_keeps_the_browser_here(path):
    status, headers, text = ask(path)
    assert (status, text) == (200, "app:")
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "http" not in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=https://example.org/a.png", "/gradio_api/file=/etc/passwd", "/gradio_api/proxy=https://a.org/",
        "/gradio_api/vibe-edit", "/gradio_api/runs", "/gradio_api/run-history/connect", "/gradio_api/stream/1",
        "/gradio_api/call/add", "/monitoring", "/docs", "/login", "/download/a/b/c", "/static", "//example.org",
    ],
)  # fmt: skip
def test_other_routes_of_gradio_do_not_exist(path):
    assert ask(path)[::2] == (404, "there is no such page.")


@pytest.mark.parametrize("host", ["localhost", "localhost:7860", "127.0.0.1:7860", "[::1]:7860", "127.8.9.1"])
def test_this_machine_is_reached_by_its_own_names(host):
    assert ask(headers={"host": host})[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "", "localhost.evil.example", "a@localhost", "1"]
)
def test_a_name_that_a_site_chose_is_refused(host):
    assert ask(headers={"host": host})[0] == 403


def test_requests_of_other_sites_are_refused():
    assert ask(JOIN, headers={"origin": "https://evil.example"}, body=b"{}", method="POST")[0] == 403
    assert ask(JOIN, headers={"origin": "null"}, body=b"{}", method="POST")[0] == 403
    assert ask(JOIN, headers={"origin": "http://localhost:7860"}, body=b"{}", method="POST")[0] == 200


def test_an_event_passes_as_it_is_and_one_that_names_an_address_does_not():
    event = json.dumps({"data": [[{"path": "/tmp/a.png", "url": "http://localhost:7860/x", "meta": {}}], 2]}).encode()
    assert ask(JOIN, body=event, method="POST")[::2] == (200, "app:" + event.decode())
    for bad in (
        json.dumps({"data": [{"path": "https://example.org/a.png", "meta": {"_type": "gradio.FileData"}}]}).encode(),
        json.dumps({"data": [2, {"deep": [{"path": "ftp://example.org"}]}]}).encode(),
        b"not json",
        b"x" * (2**20 + 1),
    ):
        assert ask(JOIN, body=bad, method="POST")[0] == 400


def test_without_the_token_nothing_is_served():
    options = {"token": TOKEN, "any_host": True}
    for path in ("/", "/config", "/download/a-key/a.png"):
        assert ask(path, **options)[0] == 403
    assert ask(query="token=another-one", **options)[0] == 403
    assert ask(headers={"cookie": "blindsr_token=another-one"}, **options)[0] == 403
    assert ask(headers={"cookie": "blindsr_token=\xfc; ]["}, **options)[0] == 403


def test_the_token_becomes_a_cookie_and_leaves_the_address():
    options = {"token": TOKEN, "any_host": True}
    status, headers, _ = ask(query=f"token={TOKEN}", headers={"host": "studio:7860"}, **options)
    assert (status, headers["location"]) == (303, "/")
    assert "HttpOnly" in headers["set-cookie"]
    cookie = headers["set-cookie"].partition(";")[0]
    assert ask("/config", headers={"host": "studio:7860", "cookie": cookie}, **options)[0] == 200


def test_another_host_has_a_token_and_this_one_has_none():
    assert AppOptions().token is None
    made = AppOptions(host="0.0.0.0").token, AppOptions(host="192.0.2.1").token
    assert made[0] != made[1]
    assert all(len(token) >= 24 for token in made)
    assert AppOptions(host="0.0.0.0", token=TOKEN).token == TOKEN


@pytest.mark.parametrize("values", [{"token": "short"}, {"token": "with space in it"}, {"max_upload": 10}])
def test_unusable_options_are_refused(values):
    with pytest.raises(ConfigError):
        AppOptions(**values)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True), ("::1", True), ("[::1]", True), ("127.1.2.3", True), ("0.0.0.0", False), ("::", False),
        ("studio", False), ("192.168.0.3", False), ("localhost.example", False),
    ],
)  # fmt: skip
def test_loopback(host, expected):
    assert is_loopback(host) is expected


def test_a_taken_port_is_one_line_and_the_default_one_goes_on_to_the_next():
    with bind(AppOptions(port=0)) as first:
        port = first.getsockname()[1]
        assert first.getsockname()[0] == "127.0.0.1"
        with pytest.raises(ConfigError, match=f"port {port} of 127.0.0.1 cannot be used .* --port"):
            bind(AppOptions(port=port))
    with bind(AppOptions()) as first, bind(AppOptions()) as second:
        assert first.getsockname() != second.getsockname()
    with pytest.raises(ConfigError, match="no address of this machine"):
        bind(AppOptions(host="192.0.2.1", port=0))


def test_the_address_opens_the_page():
    assert address_of(AppOptions(), 7860) == "http://127.0.0.1:7860/"
    assert address_of(AppOptions(host="::1"), 7860) == "http://[::1]:7860/"
    name = f"http://{socket.gethostname()}:80/?token={TOKEN}"
    assert address_of(AppOptions(host="0.0.0.0", token=TOKEN), 80) == name


def test_the_environment_is_left_as_it_was():
    assert "GRADIO_TEMP_DIR" not in os.environ
