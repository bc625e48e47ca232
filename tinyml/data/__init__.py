"""Datasets, batches and the files they come from, under torch.utils.data's names."""

from tinyml.data._dataset import Dataset, TensorDataset
from tinyml.data._idx import read_idx, write_idx
from tinyml.data._loader import DataLoader
from tinyml.data._mnist import MNIST, fashion_mnist, mnist
from tinyml.data._toy import circle, moons, spirals, xor

__all__ = [
    "MNIST",
    "DataLoader",
    "Dataset",
    "TensorDataset",
    "circle",
    "fashion_mnist",
    "mnist",
    "moons",
    "read_idx",
    "spirals",
    "write_idx",
    "xor",
]
