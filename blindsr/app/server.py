"""The server of the page: where it listens, who may use it, and what never leaves the machine.

Gradio offers routes that this page does not need, some of which fetch addresses that a client names. A guard in front
of it lets the few routes through that the page uses, refuses other sites and hosts, asks for the token if there is
one, and forbids the browser to request anything from elsewhere.
"""

import errno
import ipaddress
import json
import logging
import os
import re
import secrets
import shutil
import socket
import tempfile
import threading
import webbrowser
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from types import FrameType
from typing import Any, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

from blindsr.errors import ConfigError, reason_of
from blindsr.runtime import choose_device

__all__ = ["App", "AppOptions", "Guard", "is_loopback", "serve"]

DEFAULT_PORT: Final = 7860
DEFAULT_MAX_UPLOAD: Final = 256 * 2**20
_PORTS = 20  # that are tried from the default one on
_COOKIE = "blindsr_token"
_MAX_BODY = 2**20  # bytes of an event; files come by the upload route
_ROUTES = re.compile(
    r"/(|config|theme\.css|favicon\.ico|manifest\.json|(assets|static|svelte)/[^?]*|download/[\w-]+/[^/]+|gradio_api/"
    r"(info|theme\.css|startup-events|upload|upload_progress|cancel|reset|queue/(join|data)|heartbeat/\w+))/?"
)
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
# Gradio reads these when it is imported: no analytics, no check of versions, no history of runs, no Node server.
_ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_MCP_SERVER": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class AppOptions:
    """How the page is served.

    Args:
        host: Address to listen on. One that other machines reach needs a token, which is made if none is given.
        port: Port; None is the first free one from 7860 on, and 0 any free one.
        token: Secret that the browser must show; None is none on a loopback address.
        max_upload: Bytes that one file may have.
        device: Device of the work.
        threads: Threads of the work; None is OMP_NUM_THREADS, or one per free core.

    Raises:
        ConfigError: The token is empty or has other characters than letters, digits, "-" and "_", or the limit is
            below 1 kB.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    token: str | None = None
    max_upload: int = DEFAULT_MAX_UPLOAD
    device: str = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        """Check the values, and make the token that another host needs."""
        if self.token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{8,128}", self.token):
            raise ConfigError("a token must be 8 to 128 letters, digits, - or _; leave it out, and one is made.")
        if self.max_upload < 1000:
            raise ConfigError(f"the limit of an upload must be 1000 bytes or more, got {self.max_upload}.")
        if self.token is None and not is_loopback(self.host):
            object.__setattr__(self, "token", secrets.token_urlsafe(24))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """Lets the requests of the page through to an ASGI application, and no others.

    Args:
        app: The application.
        token: The token, or None.
        any_host: Whether the page may be reached under any name; otherwise under those of this machine alone, so that
            no web site can reach it by a name of its own.
    """

    def __init__(self, app: ASGIApp, *, token: str | None = None, any_host: bool = False) -> None:
        self._app, self._token, self._any_host = app, token, any_host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        path, query = scope["path"], parse_qs(scope.get("query_string", b"").decode("latin-1"))
        if (refusal := self._refusal(path, headers)) is not None:
            await _answer(send, *refusal)
        elif self._token is not None and path == "/" and self._is_token(query.get("token", [""])[0]):
            # The token leaves the address bar and the history; the cookie is not readable by scripts.
            cookie = f"{_COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Lax"
            await _answer(send, 303, "", ((b"location", b"/"), (b"set-cookie", cookie.encode())))
        elif self._token is not None and not self._is_token(_cookie(headers)):
            await _answer(send, 403, "a token is needed: open the address that `blindsr app` printed.")
        elif path == "/gradio_api/queue/join":
            body = await _body(receive)
            if body is None or _names_addresses(body):
                await _answer(send, 400, "this request is not one of the page.")
                return
            await self._app(scope, _replay(body, receive), _with_headers(send))
        else:
            await self._app(scope, receive, _with_headers(send))

    def _is_token(self, text: str) -> bool:
        return self._token is not None and secrets.compare_digest(text.encode(), self._token.encode())

    def _refusal(self, path: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        name = (urlsplit(f"//{host}").hostname or "") if re.fullmatch(r"[\w.\-\[\]:]+", host) else ""
        if not self._any_host and not is_loopback(name):
            return 403, "this page is reached as localhost or 127.0.0.1."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "requests of other sites are refused."
        return None if _ROUTES.fullmatch(path) else (404, "there is no such page.")


def _cookie(headers: Mapping[str, str]) -> str:
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
    except CookieError:
        return ""
    return "" if morsel is None else morsel.value


async def _answer(send: Send, status: int, text: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    kind = (b"content-type", b"text/plain; charset=utf-8")
    await send({"type": "http.response.start", "status": status, "headers": [kind, *_HEADERS, *headers]})
    await send({"type": "http.response.body", "body": text.encode()})


def _with_headers(send: Send) -> Send:
    own = {name for name, _ in _HEADERS}

    async def wrapped(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message.get("headers", ()) if name.lower() not in own]
            message = {**message, "headers": [*kept, *_HEADERS]}
        await send(message)

    return wrapped


async def _body(receive: Receive) -> bytes | None:
    """The body of a request; None if it is too large or the client is gone."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request" or len(body) + len(message.get("body", b"")) > _MAX_BODY:
            return None
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def _replay(body: bytes, receive: Receive) -> Receive:
    is_sent = False

    async def replayed() -> MutableMapping[str, Any]:
        nonlocal is_sent
        if is_sent:
            return await receive()
        is_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _names_addresses(body: bytes) -> bool:
    """Whether an event names the address of a file, which Gradio would fetch; the page sends uploaded files alone."""
    try:
        event = json.loads(body)
    except ValueError:
        return True

    def found(value: object) -> bool:
        if isinstance(value, dict):
            path = value.get("path")
            return (isinstance(path, str) and "://" in path) or any(map(found, value.values()))
        return isinstance(value, list) and any(map(found, value))

    return found(event)


class App:
    """The page, ready to be served: its private folder, its sessions, and the ASGI application.

    A context manager: at its end all jobs are stopped and all files removed.

    Args:
        options: How it is served.
    """

    def __init__(self, options: AppOptions) -> None:
        choose_device(options.device)  # a device that does not exist is an error now
        self.options = options
        self.folder = Path(tempfile.mkdtemp(prefix="blindsr-app-"))  # readable for this user alone
        self._environment = {name: os.environ.get(name) for name in (*_ENVIRONMENT, "GRADIO_TEMP_DIR")}
        os.environ.update(_ENVIRONMENT, GRADIO_TEMP_DIR=str(self.folder / "uploads"))
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        # Gradio reads the environment, which is set only now.
        import gradio as gr
        from fastapi import FastAPI
        from fastapi.responses import FileResponse, PlainTextResponse

        from blindsr.app.jobs import Sessions
        from blindsr.app.page import assets, build_page, page_theme

        options = self.options
        self.sessions = Sessions(
            self.folder, max_upload=options.max_upload, device=options.device, threads=options.threads
        )
        here = is_loopback(options.host)
        where = "this machine" if here else "the machine that serves this page"
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

        def download(key: str, name: str) -> FileResponse | PlainTextResponse:
            path = self.sessions.download(key, unquote(name))
            if path is None or not path.is_file():
                return PlainTextResponse("this file is no longer there: its page was closed.", status_code=404)
            return FileResponse(path, filename=path.name, headers={"cache-control": "no-store"})

        app.add_api_route("/download/{key}/{name}", download, response_model=None)
        page = build_page(self.sessions, where=where)
        page.queue(default_concurrency_limit=None, api_open=False)
        style, head = assets()
        gr.mount_gradio_app(
            app,
            page,
            path="/",
            footer_links=[],
            run_history=False,
            allowed_paths=[],
            show_error=True,
            max_file_size=options.max_upload,
            ssr_mode=False,
            enable_monitoring=False,
            pwa=False,
            mcp_server=False,
            theme=page_theme(),
            css=style,
            head=head,
        )
        self.asgi = Guard(app, token=options.token, any_host=not here)

    def __enter__(self) -> "App":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop all jobs, and remove all files."""
        if hasattr(self, "sessions"):
            self.sessions.close_all()
        shutil.rmtree(self.folder, ignore_errors=True)
        for name, value in self._environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def bind(options: AppOptions) -> socket.socket:
    """A socket that listens on the host and the port of the options.

    Raises:
        ConfigError: The port is taken, or the host is no address of this machine.
    """
    ports = [options.port] if options.port is not None else [*range(DEFAULT_PORT, DEFAULT_PORT + _PORTS), 0]
    for port in ports:
        try:
            family, _, _, _, address = socket.getaddrinfo(options.host.strip("[]"), port, type=socket.SOCK_STREAM)[0]
            return socket.create_server(address[:2], family=family)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and port != ports[-1]:
                continue
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise ConfigError(
                    f"port {port} of {options.host} cannot be used ({os.strerror(error.errno)}); choose another one by "
                    "--port."
                ) from error
            raise ConfigError(
                f"{options.host} is no address of this machine ({reason_of(error)}); use --host 127.0.0.1, or "
                "0.0.0.0 for all addresses."
            ) from error
    raise AssertionError("the last port raises")


def address_of(options: AppOptions, port: int) -> str:
    """The address that a browser opens, with the token if there is one."""
    host = options.host.strip("[]")
    if host in ("0.0.0.0", "::"):
        host = socket.gethostname()
    host = f"[{host}]" if ":" in host else host
    token = "" if options.token is None else f"?token={quote(options.token)}"
    return f"http://{host}:{port}/{token}"


def serve(options: AppOptions, *, started: Callable[[str], object], open_browser: bool = True) -> None:
    """Serve the page until the process is interrupted; then remove all files.

    Args:
        options: How it is served.
        started: Receives the address when the page can be opened.
        open_browser: Open the page in the user's browser.

    Raises:
        ConfigError: The host or the port cannot be used.
        DeviceError: The device does not exist on this machine.
    """
    import uvicorn

    with bind(options) as listening, App(options) as app:
        address = address_of(options, listening.getsockname()[1])
        config = uvicorn.Config(
            app.asgi, log_level="warning", access_log=False, timeout_graceful_shutdown=2, server_header=False
        )
        # The socket listens already: a browser that is faster than the server waits.
        started(address)
        if open_browser:
            # Some browsers block until they are closed.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        server = uvicorn.Server(config)
        stop = server.handle_exit

        def handle_exit(number: int, frame: FrameType | None) -> None:
            # An open page keeps its connections, and cutting them is no error to be printed.
            logging.getLogger("uvicorn.error").disabled = True
            app.sessions.cancel_all()
            stop(number, frame)

        server.handle_exit = handle_exit
        with suppress(KeyboardInterrupt):  # the ordinary end
            server.run(sockets=[listening])
