"""Layers, losses and initialisers under torch.nn's names, and micrograd's Neuron, Layer and MLP over Values."""

from tinyml.nn import functional, init, utils
from tinyml.nn._activation import LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from tinyml.nn._container import Flatten, Sequential
from tinyml.nn._dropout import Dropout
from tinyml.nn._linear import Linear
from tinyml.nn._loss import CrossEntropyLoss, MSELoss
from tinyml.nn._module import Module, Parameter
from tinyml.nn._scalar import MLP, Layer, Neuron

__all__ = [
    "MLP",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "Linear",
    "MSELoss",
    "Module",
    "Neuron",
    "Parameter",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "Softmax",
    "Tanh",
    "functional",
    "init",
    "utils",
]
