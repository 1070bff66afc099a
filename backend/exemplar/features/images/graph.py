"""EfficientNet-Lite as an ONNX graph, made of its weights alone: their shapes tell the rest.

Batch normalisation is folded into the convolution before it: of each layer a convolution and a clipping are left.
onnxruntime finds the quickest way to run them on the machine at hand.

References
----------
Tan & Le (2019), "EfficientNet: rethinking model scaling for convolutional neural networks". The Lite variants,
without squeeze-and-excitation and with ReLU6, are of Google's TPU repository (2020).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

# Brightness 0..255 becomes (brightness - MEAN) / SPREAD.
MEAN, SPREAD = 127.0, 128.0
# The first of a stage's blocks halves the sides; so does the stem.
HALVING_BLOCKS = (1, 3, 5, 11)
EPSILON = 1e-3
# The newest that all versions of onnxruntime for Python 3.11 and later read.
OPSET, IR_VERSION = 17, 8

Tensors = Mapping[str, NDArray[Any]]


def lite_graph(tensors: Tensors, side: int) -> ModelProto:
    """Return the network from pixels, uint8 (n, side, side, 3), to the means of its last block, (n, 320)."""
    layers = _Layers(tensors, side)
    x = layers.pixels("pixels")
    x = layers.convolution(x, "_conv_stem", "_bn0", halving=True)
    for block in range(_n_blocks(tensors)):
        x = layers.block(x, f"_blocks.{block}.", halving=block in HALVING_BLOCKS)
    layers.node("Flatten", [layers.node("GlobalAveragePool", [x])], "features")
    n_features = len(tensors[f"_blocks.{_n_blocks(tensors) - 1}._project_conv.weight"])
    return helper.make_model(
        layers.graph("efficientnet-lite", n_features),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )


def _n_blocks(tensors: Tensors) -> int:
    return len({name.split(".")[1] for name in tensors if name.startswith("_blocks.")})


class _Layers:
    """The nodes and constants of a graph that grows."""

    def __init__(self, tensors: Tensors, side: int) -> None:
        self._tensors, self._side = tensors, side
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self.constant("zero", np.array(0))
        self.constant("six", np.array(6))

    def graph(self, name: str, n_features: int) -> GraphProto:
        pixels = helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", self._side, self._side, 3])
        features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", n_features])
        return helper.make_graph(self._nodes, name, [pixels], [features], self._constants)

    def node(self, kind: str, inputs: list[str], name: str = "", **attributes: Any) -> str:
        name = name or f"{kind}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, name: str, values: NDArray[Any]) -> str:
        self._constants.append(numpy_helper.from_array(np.asarray(values, np.float32, order="C"), name))
        return name

    def pixels(self, x: str) -> str:
        x = self.node("Cast", [self.node("Transpose", [x], perm=[0, 3, 1, 2])], to=TensorProto.FLOAT)
        x = self.node("Sub", [x, self.constant("mean", np.array(MEAN))])
        return self.node("Div", [x, self.constant("spread", np.array(SPREAD))])

    def block(self, x: str, name: str, *, halving: bool) -> str:
        """An inverted residual: widen, look around in each channel, narrow; and add what came in."""
        inner = x
        if f"{name}_expand_conv.weight" in self._tensors:
            inner = self.convolution(inner, f"{name}_expand_conv", f"{name}_bn0")
        inner = self.convolution(inner, f"{name}_depthwise_conv", f"{name}_bn1", halving=halving)
        inner = self.convolution(inner, f"{name}_project_conv", f"{name}_bn2", clipped=False)
        n_out, n_in = len(self._tensors[f"{name}_project_conv.weight"]), self._n_in(name)
        return self.node("Add", [x, inner]) if not halving and n_in == n_out else inner

    def _n_in(self, block: str) -> int:
        expand = self._tensors.get(f"{block}_expand_conv.weight")
        return len(self._tensors[f"{block}_depthwise_conv.weight"]) if expand is None else expand.shape[1]

    def convolution(self, x: str, name: str, norm: str, *, halving: bool = False, clipped: bool = True) -> str:
        weight, bias = folded(self._tensors, name, norm)
        side = weight.shape[-1]
        around = side - 1 - halving  # TensorFlow's "same": of an odd number of rows around, one more below
        pads = [around // 2] * 2 + [around - around // 2] * 2
        x = self.node(
            "Conv",
            [x, self.constant(f"{name}.weight", weight), self.constant(f"{name}.bias", bias)],
            group=len(weight) if weight.shape[1] == 1 else 1,
            kernel_shape=[side, side],
            pads=pads,
            strides=[1 + halving] * 2,
        )
        return self.node("Clip", [x, "zero", "six"]) if clipped else x


def folded(tensors: Tensors, name: str, norm: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return weight and bias of a convolution with the batch normalisation behind it."""
    gain = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + EPSILON)
    weight = tensors[f"{name}.weight"] * gain[:, None, None, None]
    return weight, tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * gain
