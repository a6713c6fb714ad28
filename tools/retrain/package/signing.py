"""The private key that vouches for packages. It is read, used and never shown."""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ripeloop.errors import SettingsError

_MAKE_ONE = "make one: openssl genpkey -algorithm ed25519 -out private.pem"


def private_key(path: Path) -> Ed25519PrivateKey:
    """The Ed25519 key in a PEM file without a password. Raises SettingsError, which tells nothing of what is in it."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except OSError as error:
        raise SettingsError(f"the key {path} cannot be read: {error.strerror or error}") from error
    except TypeError:
        raise SettingsError(f"the key {path} is locked with a password; give one without, in a safe place") from None
    except (ValueError, UnsupportedAlgorithm):
        raise SettingsError(f"{path} holds no private key in PEM form; {_MAKE_ONE}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"the key in {path} is not an Ed25519 key; {_MAKE_ONE}")
    return key


def others_can_read(path: Path) -> bool:
    """Whether more people than the file's owner may read it."""
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))
