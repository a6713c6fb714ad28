"""`python -m bench`: how fast the parts are, on this machine, now."""

from __future__ import annotations

import click

from bench.classifier.command import command as classifier
from bench.sampler.command import command as sampler


@click.group(context_settings={"auto_envvar_prefix": "BENCH", "show_default": True})
def main() -> None:
    """Measure parts of Ripeloop side by side with what they replace, and say whether they are as fast as wanted."""


main.add_command(classifier, "classifier")
main.add_command(sampler, "sampler")

if __name__ == "__main__":
    main()
