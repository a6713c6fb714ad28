"""`python -m bench`: how fast the parts are, on this machine, now."""

from __future__ import annotations

import click

from bench.classifier.command import command as classifier
from bench.label.command import command as label
from bench.sampler.command import command as sampler
from bench.sampling.command import command as sampling


@click.group(context_settings={"auto_envvar_prefix": "BENCH", "show_default": True})
def main() -> None:
    """Measure parts of Ripeloop side by side with what they replace, and say whether they are as fast as wanted."""


main.add_command(classifier, "classifier")
main.add_command(sampler, "sampler")
main.add_command(label, "label")
main.add_command(sampling, "sampling")

if __name__ == "__main__":
    main()
