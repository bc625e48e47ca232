"""Optimizers: SGD, Adam, AdamW, and the base class for others."""

from tinyml.optim._adam import Adam as Adam
from tinyml.optim._adam import AdamW as AdamW
from tinyml.optim._optimizer import Optimizer as Optimizer
from tinyml.optim._sgd import SGD as SGD

__all__ = ["SGD", "Adam", "AdamW", "Optimizer"]
