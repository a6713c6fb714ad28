"""`python -m bench.sampler`: measures the sampler on this computer."""

from __future__ import annotations

import click

from bench.sampler import backlog, keeping


@click.command()
@click.option("--rows", default=backlog.ROWS, show_default=True, help="Rows of the index to decide with.")
@click.option("--backlog", "waiting", default=backlog.BACKLOG, show_default=True, help="Images to start with.")
@click.option("--images", default=keeping.IMAGES, show_default=True, help="Images to keep.")
def main(rows: int, waiting: int, images: int) -> None:
    """Measure the sampler on this computer: keeping, deciding, starting.

    Example: python -m bench.sampler --rows 100000
    """
    for name, figure in (keeping.measure(images) | backlog.measure(rows, waiting)).items():
        click.echo(f"{name:32} {figure:12.2f}")


if __name__ == "__main__":
    main()
