"""EfficientNet-Lite0 as an ONNX graph from pixels to features, built from its weights.

Source: "EfficientNet: Rethinking Model Scaling" (Tan and Le, 2019), in the Lite0 form of TensorFlow's TPU models: no
squeeze-and-excitation, ReLU6, TensorFlow's SAME padding, pixels (x - 127) / 128.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

SIZE = 224
INPUT = "data"
FEATURES = "features"
STAGES = (112, 320, 1280)
"""Channels of the stages that are pooled, from the middle of the network to its end."""
FEATURE_COUNT = 2 * sum(STAGES)

Array = npt.NDArray[np.float32]

# opset 17 and IR 8: what onnxruntime has run since 1.13, and what Custom Vision's readers of today know
OPSET = 17
IR_VERSION = 8

_BATCH_NORM_EPSILON = 1e-3
_MEAN, _DEVIATION = 127.0, 128.0


@dataclass(frozen=True, slots=True)
class _Stage:
    """Blocks in a row with one kernel size and one width; the first block strides."""

    blocks: int
    kernel: int
    stride: int
    expansion: int
    channels: int
    pooled: bool = False


# Pooling the middle of the network too is worth one to two points of accuracy and no time: the last layer alone has
# forgotten the colours and textures that ripeness, dirt and scratches are made of.
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112, pooled=True),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320, pooled=True),
)
_STEM_CHANNELS = 32


def build_backbone(weights: Mapping[str, Array]) -> onnx.ModelProto:
    """The graph: `data` float32 [N, 3, 224, 224], RGB, 0 to 1, to `features` float32 [N, FEATURE_COUNT].

    The features are the average and the maximum over the picture of three stages. Batch norm is folded into the
    convolutions. Raises KeyError where `weights` are not EfficientNet-Lite0's.
    """
    net = _Network(weights)
    x = net.normalised(INPUT)
    x = net.convolution(x, "_conv_stem", "_bn0", kernel=3, stride=2)
    block, channels, pooled = 0, _STEM_CHANNELS, []
    for stage in _STAGES:
        for nth in range(stage.blocks):
            stride = stage.stride if nth == 0 else 1
            x = net.block(x, f"_blocks.{block}", stage, stride=stride, channels=channels)
            block, channels = block + 1, stage.channels
        if stage.pooled:
            pooled += net.pools(x)
    x = net.convolution(x, "_conv_head", "_bn1")
    pooled += net.pools(x)
    net.node("Concat", pooled, "pooled", axis=1)
    net.node("Flatten", ["pooled"], FEATURES, axis=1)
    return net.model()


class _Network:
    """Nodes and constants of the graph so far, and the height (and width) of the picture at its end."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._limits = [self.constant("zero", 0.0), self.constant("six", 6.0)]
        self._height = SIZE

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add one operator; its output's name."""
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        """Add a float32 constant; its name."""
        self._constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def normalised(self, pixels: str) -> str:
        """Pixels of 0 to 1 as the network was trained on them."""
        # not folded into the first convolution: its padding is 0 after this step, not before
        mean, scale = self.constant("pixel_mean", _MEAN / 255), self.constant("pixel_scale", 255 / _DEVIATION)
        return self.node("Mul", [self.node("Sub", [pixels, mean], "centred"), scale], "normalised")

    def convolution(
        self, x: str, name: str, norm: str, *, kernel: int = 1, stride: int = 1, groups: int = 1, clipped: bool = True
    ) -> str:
        """A convolution with its batch norm folded in, SAME padding, and ReLU6 where `clipped`."""
        weight, bias = self._folded(name, norm)
        height = -(-self._height // stride)
        padding = max((height - 1) * stride + kernel - self._height, 0)
        before, after = padding // 2, padding - padding // 2  # TensorFlow puts the odd one after
        self._height = height
        y = self.node(
            "Conv",
            [x, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)],
            f"{name}.out",
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[before, before, after, after],
            group=groups,
        )
        if not clipped:
            return y
        return self.node("Clip", [y, *self._limits], f"{name}.relu6")

    def block(self, x: str, name: str, stage: _Stage, *, stride: int, channels: int) -> str:
        """An inverted residual: widen, filter each channel, narrow, and add where the shape stayed."""
        y, wide = x, channels * stage.expansion
        if stage.expansion != 1:
            y = self.convolution(y, f"{name}._expand_conv", f"{name}._bn0")
        y = self.convolution(
            y, f"{name}._depthwise_conv", f"{name}._bn1", kernel=stage.kernel, stride=stride, groups=wide
        )
        y = self.convolution(y, f"{name}._project_conv", f"{name}._bn2", clipped=False)
        if stride == 1 and channels == stage.channels:
            y = self.node("Add", [y, x], f"{name}.add")
        return y

    def pools(self, x: str) -> list[str]:
        """The average and the maximum of each channel over the picture."""
        return [
            self.node("GlobalAveragePool", [x], f"{x}.average"),
            self.node("GlobalMaxPool", [x], f"{x}.maximum"),
        ]

    def model(self) -> onnx.ModelProto:
        """The checked model; its input and output have a free batch size."""
        pixels = helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", 3, SIZE, SIZE])
        features = helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["N", FEATURE_COUNT])
        graph = helper.make_graph(self._nodes, "efficientnet_lite0", [pixels], [features], self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="ripeloop")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        return model

    def _folded(self, name: str, norm: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Weight [out, in, k, k] and bias [out] that convolve and normalise in one step."""
        # a block's norms are named beside its convolutions: "_blocks.0._expand_conv" and "_blocks.0._bn0"
        weight = self._weights[f"{name}.weight"].astype(np.float64)
        gamma, beta, mean, variance = (
            self._weights[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(variance + _BATCH_NORM_EPSILON)
        return weight * scale[:, None, None, None], beta - mean * scale
