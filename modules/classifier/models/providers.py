"""Execution providers: what onnxruntime may compute on, by our words for it, and whether it really does."""

from __future__ import annotations

from collections.abc import Sequence

from classifier.models.runtime import onnxruntime
from ripeloop.errors import BadModel, SettingsError

CPU = "cpu"
_NAMES = {
    CPU: "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
_WORDS = {name: word for word, name in _NAMES.items()}
_NVIDIA = "onnxruntime-gpu[cuda,cudnn]"
_PACKAGES = {"cuda": _NVIDIA, "tensorrt": _NVIDIA, "openvino": "onnxruntime-openvino"}


def parse(text: str) -> tuple[str, ...]:
    """The providers of a list like "tensorrt,cuda", in that order; "cpu", which computes what they cannot, is last.

    Raises SettingsError for a word we do not know, and for a provider that the onnxruntime installed here lacks.
    """
    words = [word.strip().lower() for word in text.split(",") if word.strip()]
    for word in words:
        if word not in _NAMES:
            raise SettingsError(f"--providers {word} is unknown; known are {', '.join(_NAMES)}")
    offered = [_WORDS[name] for name in onnxruntime.get_available_providers() if name in _WORDS]
    for word in words:
        if word not in offered:
            raise SettingsError(
                f"--providers {word}: onnxruntime here offers {', '.join(offered)} alone; build the image with "
                f"--build-arg ONNXRUNTIME='{_PACKAGES.get(word, 'onnxruntime')}', or leave {word} out"
            )
    return (*dict.fromkeys(word for word in words if word != CPU), CPU)


def names(providers: Sequence[str]) -> list[str]:
    """The same providers in onnxruntime's words."""
    return [_NAMES[word] for word in providers]


def preload(providers: Sequence[str]) -> None:
    """Let onnxruntime find the CUDA libraries that were installed as Python packages."""
    if {"cuda", "tensorrt"} & set(providers):
        onnxruntime.preload_dlls()


def check(session: onnxruntime.InferenceSession, providers: Sequence[str]) -> None:
    """Return if the session computes on all of them. Raises BadModel.

    Onnxruntime says so in its own log alone, and goes on on the CPU, where a driver or a library is missing.
    """
    using = session.get_providers()
    missing = [word for word in providers if _NAMES[word] not in using]
    if missing:
        raise BadModel(
            f"onnxruntime cannot compute on {', '.join(missing)} here, only on "
            f"{', '.join(_WORDS.get(name, name) for name in using)}: is the device given to the container, and are its "
            "driver and libraries there? onnxruntime's message above says which it misses"
        )
