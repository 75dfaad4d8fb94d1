"""ResNet-50 with random weights: the size and the operators of the real one, and no meaning.

Batch normalisation is folded into the convolutions, as exporters do. The network is He et al.,
"Deep Residual Learning for Image Recognition", 2015, table 1, with the stride in the 3 x 3
convolutions.
"""

import math

import numpy as np
from onnx import helper

STAGES = [(64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)]
EXPANSION = 4
CLASSES = 1000


class Network:
    """Nodes and weights, gathered while layers are added."""

    def __init__(self, seed):
        self.random = np.random.default_rng(seed)
        self.nodes, self.weights, self.count = [], {}, 0

    def name(self, kind):
        self.count += 1
        return f"{kind}_{self.count}"

    def weight(self, shape, fan_in):
        name = self.name("weight")
        values = self.random.standard_normal(shape, dtype=np.float32) * math.sqrt(2 / fan_in)
        self.weights[name] = values.astype(np.float32)
        return name

    def node(self, kind, inputs, **attributes):
        output = self.name(kind.lower())
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def convolution(self, source, channels_in, channels_out, size, stride=1):
        fan_in = channels_in * size * size
        weight = self.weight((channels_out, channels_in, size, size), fan_in)
        bias = self.weight((channels_out,), fan_in)
        return self.node(
            "Conv",
            [source, weight, bias],
            kernel_shape=[size, size],
            strides=[stride, stride],
            pads=[size // 2] * 4,
        )

    def bottleneck(self, source, channels_in, width, stride):
        channels_out = width * EXPANSION
        inner = self.node("Relu", [self.convolution(source, channels_in, width, 1)])
        inner = self.node("Relu", [self.convolution(inner, width, width, 3, stride)])
        inner = self.convolution(inner, width, channels_out, 1)
        shortcut = source
        if channels_in != channels_out or stride != 1:
            shortcut = self.convolution(source, channels_in, channels_out, 1, stride)
        return self.node("Relu", [self.node("Add", [inner, shortcut])])


def resnet50():
    """Nodes from `image`, [N,3,224,224], to `logits`, [N,1000], and the weights by name."""
    network = Network(seed=50)
    now = network.node("Relu", [network.convolution("image", 3, 64, 7, stride=2)])
    now = network.node("MaxPool", [now], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for width, blocks, stride in STAGES:
        for block in range(blocks):
            now = network.bottleneck(now, channels, width, stride if block == 0 else 1)
            channels = width * EXPANSION
    now = network.node("Flatten", [network.node("GlobalAveragePool", [now])])
    weight = network.weight((channels, CLASSES), channels)
    bias = network.weight((CLASSES,), channels)
    network.nodes.append(helper.make_node("Gemm", [now, weight, bias], ["logits"]))
    return network.nodes, network.weights
