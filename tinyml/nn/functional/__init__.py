"""Functions of tensors under torch.nn.functional's names, for use as `F`."""

from tinyml.nn.functional._activation import leaky_relu, log_softmax, relu, sigmoid, softmax, tanh
from tinyml.nn.functional._dropout import dropout
from tinyml.nn.functional._linear import embedding, linear, one_hot
from tinyml.nn.functional._loss import cross_entropy, mse_loss, nll_loss

__all__ = [
    "cross_entropy",
    "dropout",
    "embedding",
    "leaky_relu",
    "linear",
    "log_softmax",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "relu",
    "sigmoid",
    "softmax",
    "tanh",
]
