"""Fixtures live beside what they start: `azurite.py` a blob server, `edge.py` the local edge runtime."""

pytest_plugins = ["azurite", "edge"]
