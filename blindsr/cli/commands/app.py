"""`blindsr app`: the local page."""

import importlib.util

import click

from blindsr.cli.options import Options, command, with_options
from blindsr.cli.types import FILE_SIZE, IntRange
from blindsr.errors import ConfigError

__all__ = ["app"]


@command("app", "Open a page in the browser that upscales photographs on this machine.", "app --max-upload 1GB",
    click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS",
        help="Address to listen on. 127.0.0.1 is reached from this machine alone; 0.0.0.0, or an address of the "
        "network, from others too, which then need a token."),
    click.option("--port", type=IntRange(0, 65535), metavar="N", show_default="7860, or the next free one",
        help="Port; 0 is any free one."),
    click.option("--token", metavar="TEXT",
        help="Secret that the browser must show once, as ?token=TEXT in the address: 8 or more letters, digits, - or "
        "_.  [default: a random one with another --host, none on this machine]"),
    click.option("--max-upload", type=FILE_SIZE, show_default="256MB",
        help="Largest file that can be dropped on the page, such as 1GB."),
    click.option("--no-browser", is_flag=True, help="Only print the address, and open no browser."),
    with_options("device", "threads", "quiet", device="Processor: auto, cpu, cuda, cuda:N or mps.",
        quiet="Print only the address, on stdout, and errors on stderr."),
)  # fmt: skip
def app(
    options: Options, /, host: str, port: int | None, token: str | None, max_upload: int | None, no_browser: bool
) -> None:
    """Serve a page on which photographs are dropped, upscaled, compared and downloaded, until it is interrupted.

    The page shows what will be done, the progress, the result beside an interpolation at 100 %, the kernel and every
    warning. All work is done here: no request leaves the machine, uploads are kept in a private temporary folder, and
    they are removed when the page is closed or the command ends. The address is printed on stdout.
    """
    if importlib.util.find_spec("gradio") is None:
        raise ConfigError('the page needs Gradio: pip install "blindsr[app]"')
    from blindsr.app.server import DEFAULT_MAX_UPLOAD, AppOptions, is_loopback, serve

    settings = AppOptions(
        host=host,
        port=port,
        token=token,
        max_upload=DEFAULT_MAX_UPLOAD if max_upload is None else max_upload,
        device=options.device or "auto",
        threads=options.threads,
    )

    def started(address: str) -> None:
        click.echo(address)
        if options.quiet:
            return
        if not is_loopback(host):
            click.echo(
                "This address is reached from other machines. Whoever has the token can use the page; the connection "
                "is not encrypted.",
                err=True,
            )
        click.echo("Open the address in a browser; end with Ctrl-C.", err=True)

    serve(settings, started=started, open_browser=not no_browser)
