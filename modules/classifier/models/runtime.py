"""onnxruntime, told first to keep to itself.

Version 1.31 reports to its makers over the network, and keeps a file in the home folder, unless this variable is set
before the import; the calls that switch it off later come too late.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as errors

__all__ = ["errors", "onnxruntime"]
