"""The whole line as the demo starts it: where everything lies, and which ports are its own."""

from pathlib import Path
from typing import Any

from demo.system import Plan
from edge import free_gateway, free_port

PROJECT = Path(__file__).parents[1]


def plan_in(folder: Path, model: Path, **more: Any) -> Plan:
    """A device with the project's own deployment and that model, all else of it in `folder`."""
    gateway = free_gateway()
    return Plan(
        deployment=PROJECT / "deployment.template.json",
        env_file=PROJECT / ".env.template",
        model=model,
        logs=folder / "logs",
        cloud=str(folder / "cloud"),
        local=str(folder / "local"),
        gateway=gateway,
        port=free_port("127.0.0.1"),
        hub_port=free_port(gateway),
        **more,
    )
