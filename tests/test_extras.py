"""What an extra installs is all its programs import: an installation has nothing of the others."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROGRAM = """
import json, sys
from importlib import import_module

absent = set(json.loads(sys.argv[1]))


class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Absent())
for name in sys.argv[2:]:
    import_module(name)
if "retrain.__main__" in sys.argv:
    list(import_module("retrain.__main__").COMMANDS.values())  # each is imported when it is asked for
"""


def installed_by(extra: str) -> set[str]:
    """The distributions that `ripeloop[extra]` brings, with all they need in turn."""
    found: set[str] = set()
    todo = [("ripeloop", extra)]
    while todo:
        name, wanted = todo.pop()
        try:
            requirements = distribution(name).requires or []
        except PackageNotFoundError:
            continue  # for another platform
        for requirement in map(Requirement, requirements):
            if requirement.marker is None or requirement.marker.evaluate({"extra": wanted}):
                needed = canonicalize_name(requirement.name)
                more = [(needed, one) for one in requirement.extras] + ([] if needed in found else [(needed, "")])
                todo += [one for one in more if one not in todo]
                found.add(needed)
    return found


@pytest.mark.parametrize(
    ("extra", "programs"),
    [
        ("tools", ["retrain.__main__", "trainer.__main__"]),
        ("classifier", ["classifier.__main__"]),
        ("sampler", ["sampler.__main__"]),
    ],
)
def test_a_program_imports_nothing_that_its_extra_does_not_install(extra: str, programs: list[str]) -> None:
    there = installed_by(extra) | {"ripeloop"}
    assert {"click", "aiohttp"} <= there
    names = packages_distributions()
    absent = [name for name, dists in names.items() if not there & {canonicalize_name(dist) for dist in dists}]
    assert "pytest" in absent
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(absent), *programs], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
