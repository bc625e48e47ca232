"""Datasets, batches and the files they come from, under torch.utils.data's names."""

from tinyml.data._dataset import Dataset, TensorDataset
from tinyml.data._idx import read_idx, write_idx
from tinyml.data._loader import DataLoader
from tinyml.data._mnist import MNIST, mnist
from tinyml.data._toy import xor

__all__ = [
    "MNIST",
    "DataLoader",
    "Dataset",
    "TensorDataset",
    "mnist",
    "read_idx",
    "write_idx",
    "xor",
]
