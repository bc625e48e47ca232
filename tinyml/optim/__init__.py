"""Optimizers under torch.optim's names, the base class for others, and lr_scheduler, which changes learning rates."""

from tinyml.optim import lr_scheduler as lr_scheduler
from tinyml.optim._adagrad import Adagrad as Adagrad
from tinyml.optim._adam import Adam as Adam
from tinyml.optim._adam import AdamW as AdamW
from tinyml.optim._optimizer import Optimizer as Optimizer
from tinyml.optim._rmsprop import RMSprop as RMSprop
from tinyml.optim._sgd import SGD as SGD

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "lr_scheduler"]
