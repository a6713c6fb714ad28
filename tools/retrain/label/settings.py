"""What `ripeloop label` is told."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from ripeloop.errors import SettingsError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything the labelling page can be told. Shares are 0 to 1, times in seconds.

    `state`: the folder for the cache, the answers on their way and the secret of the sessions. Raises SettingsError
    for what would let strangers in.
    """

    state: Path
    host: str = "127.0.0.1"
    port: int = 8765
    token: str = field(default="", repr=False)
    admin_token: str = field(default="", repr=False)
    admins: tuple[str, ...] = ()
    user_header: str = ""
    proxies: tuple[Network, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    negative_tag: str = "Negative"
    overlap: float = 0.05
    blind: float = 0.2
    known: float = 0.02
    lease_seconds: float = 600.0
    skip_seconds: float = 3600.0
    scan_seconds: float = 60.0
    image_cache_mb: int = 2048
    training_needs: int = 50
    report: Path | None = None
    model: Path | None = None
    endpoint: str = ""
    training_key: str = field(default="", repr=False)
    project: str = ""
    retrain: tuple[str, ...] = ()
    """The command that an admin's button runs; none: there is no button."""

    def __post_init__(self) -> None:
        if not self.local and not (self.token or self.user_header):
            raise SettingsError(
                f"--host {self.host} lets other computers in: set RIPELOOP_LABEL_TOKEN, or --trusted-user-header with "
                "--trusted-proxy behind a proxy that signs people in; docs/LABELLING.md says how"
            )
        if self.user_header and not self.proxies:
            raise SettingsError(
                "--trusted-user-header and --trusted-proxy belong together: who may say the name, and in which header"
            )
        if self.proxies and not (self.user_header or self.token):
            raise SettingsError(
                "--trusted-proxy lets other computers in: set --trusted-user-header, in which it says who signed in, "
                "or RIPELOOP_LABEL_TOKEN"
            )
        if self.token and self.admins and not (self.admin_token or self.user_header):
            raise SettingsError(
                "--admin with a token that all share would let anybody sign in as an admin: set "
                "RIPELOOP_LABEL_ADMIN_TOKEN as well, which only the admins know"
            )
        for name, token in (("TOKEN", self.token), ("ADMIN_TOKEN", self.admin_token)):
            if token and len(token) < 16:
                raise SettingsError(
                    f"RIPELOOP_LABEL_{name} is short enough to be guessed: give it 16 characters or more"
                )
        if self.token and self.token == self.admin_token:
            raise SettingsError("RIPELOOP_LABEL_ADMIN_TOKEN must differ from RIPELOOP_LABEL_TOKEN, which all know")

    @property
    def local(self) -> bool:
        """Only this computer reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def network(text: str) -> Network:
    """An address or a range, such as `127.0.0.1` or `10.1.0.0/16`. Raises SettingsError."""
    try:
        return ipaddress.ip_network(text.strip())
    except ValueError:
        raise SettingsError(
            f"--trusted-proxy {text!r} is no address: write one such as 127.0.0.1 or 10.1.0.0/16"
        ) from None
