"""`blindsr report`: the page of an ablation, made again."""

from pathlib import Path

import click

from blindsr.cli._options import PHOTO

__all__ = ["command"]


@click.command(
    "report",
    short_help="Rebuild the report of an ablation.",
    epilog="Example: blindsr report ablation --plot",
)
@click.argument("folder", metavar="DIR", type=PHOTO)
@click.option("--plot", is_flag=True, help="Write ablation.pdf and .png too; needs blindsr[plot].")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors on stderr.")
def command(folder: Path, plot: bool, quiet: bool) -> None:
    """Write tables and report.html of the ablation in DIR again, from what is there.

    The page is one file that needs no network and no other file: it can be sent.
    """
    from blindsr.errors import ConfigError
    from blindsr.pipelines.ablation_store import Store
    from blindsr.pipelines.ablation_tables import write_tables
    from blindsr.report.ablation import write_ablation_report
    from blindsr.report.plot import check_plot, write_plots

    if not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; name the folder of an ablation.")
    if plot:
        check_plot()
    results = Store(folder).load()
    write_tables(results)
    path = write_ablation_report(results)
    if plot:
        write_plots(results)
    if results.missing and not quiet:
        click.echo(f"note: {results.missing} of {len(results.plan['keys'])} cells are missing or failed.", err=True)
    click.echo(str(path))
