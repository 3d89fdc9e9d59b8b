"""`blindsr doctor`: what this machine has, for people and for bug reports."""

import json

import click

__all__ = ["command"]


@click.command("doctor", short_help="Show what this machine has.", epilog="Example: blindsr doctor --json")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """Show versions, devices, cores, memory, whether bfloat16 pays here, and the extras found."""
    from blindsr.cli._examine import examine

    found = examine()
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
        return
    for heading, facts in found.items():
        click.echo(heading)
        for name, value in facts.items():
            click.echo(f"  {name:<14}{value}")
