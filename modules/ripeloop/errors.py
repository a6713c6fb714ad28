"""What can go wrong, named for the situation. Every message says what to do.

RipeloopError
├── SettingsError   a setting is missing or wrong; nothing was started
├── BadImage        the bytes are not an image that can be classified (the trainer's BadTrainingImage says which)
├── BadModel        the model cannot be used; the message says why
├── BadRecord       a spool file or a message is not what its writer promised
├── Offline         the other side cannot be reached now; later may help
│   └── Unfinished  it is at work still, longer than we wait; asked again, the waiting goes on
├── Refused         the other side said no; the same again will not help
│   ├── Changed     somebody changed it meanwhile: read it again
│   └── Denied      it says no to all of it: the credential, the container or the account is not in order
├── NotFound        nothing has that name
├── TrainingFailed  the service made no model; the message has its reason
├── SpoolFull       the spool has no room; the image is dropped and counted
├── TooLarge        a message is over the hub's limit
└── HubLost         the hub failed for good; the process must end and be restarted
"""


class RipeloopError(Exception):
    """The root: catch it to answer any failure this project knows by name.

    `kind` is one word for metrics and programs, where one class has several causes worth telling apart.
    """

    def __init__(self, message: str = "", *, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class SettingsError(RipeloopError):
    """A setting is missing or wrong."""


class BadImage(RipeloopError):
    """The bytes are not an image that can be classified."""


class BadModel(RipeloopError):
    """The model cannot be used."""


class BadRecord(RipeloopError):
    """A spool file or a message is not what its writer promised."""


class Offline(RipeloopError):
    """The other side cannot be reached now."""


class Unfinished(Offline):
    """The other side is at work still, longer than we wait."""


class Refused(RipeloopError):
    """The other side said no, and would say so again."""


class Changed(Refused):
    """Somebody changed it since it was read."""


class Denied(Refused):
    """The other side says no whatever the item: the credential, the container or the account is not in order."""


class NotFound(RipeloopError):
    """Nothing has that name."""


class TrainingFailed(RipeloopError):
    """The service made no model."""


class SpoolFull(RipeloopError):
    """The spool has no room for this image."""


class TooLarge(RipeloopError):
    """A message is over the hub's limit."""


class HubLost(RipeloopError):
    """The hub failed for good; only a new process helps."""
