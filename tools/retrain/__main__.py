"""The `ripeloop` command: what a person, or a scheduled job, asks of the fleet and of what it sent."""

from __future__ import annotations

import click

from retrain.config import config_option
from retrain.ending import ENDS
from retrain.lacking import AllAtOnce
from retrain.loading import Commands
from ripeloop import log as logs
from ripeloop.process import log_options

COMMANDS = Commands(
    {
        "compare": ("retrain.compare.commands", "compare"),
        "config": ("retrain.config_command", "config_command"),
        "credential": ("retrain.devices.asking", "credential"),
        "dataset": ("retrain.data.commands", "dataset"),
        "deploy": ("retrain.manifest.deploy_command", "deploy"),
        "export": ("retrain.turn.train.export_command", "export_command"),
        "flush": ("retrain.devices.asking", "flush"),
        "judge": ("retrain.judging.commands", "judge_command"),
        "label": ("retrain.label.commands", "label"),
        "manifest": ("retrain.manifest.commands", "manifest"),
        "package": ("retrain.judging.commands", "package_command"),
        "pause": ("retrain.devices.asking", "pause"),
        "reconcile": ("retrain.devices.asking", "reconcile"),
        "release": ("retrain.release.commands", "release_command"),
        "resume": ("retrain.devices.asking", "resume"),
        "retrain": ("retrain.turn.retrain_command", "retrain_command"),
        "rollback": ("retrain.release.commands", "rollback_command"),
        "samples": ("retrain.samples_command", "samples"),
        "status": ("retrain.release.status", "status"),
        "tag": ("retrain.turn.tag.tag_command", "tag_command"),
        "train": ("retrain.turn.train.train_command", "train_command"),
        "trainer": ("retrain.data.commands", "trainer"),
        "why": ("retrain.devices.asking", "why"),
    }
)


@click.group(
    cls=AllAtOnce,
    commands=COMMANDS,
    context_settings={"auto_envvar_prefix": "RIPELOOP", "show_default": True},
    epilog=ENDS,
)
@log_options
@config_option
@click.version_option(package_name="ripeloop")
def main(log_level: str, log_json: bool) -> None:
    """The classifier that gets better with use: how its devices stand, and what they sent."""
    logs.configure(log_level, as_json=log_json)


if __name__ == "__main__":
    main()
