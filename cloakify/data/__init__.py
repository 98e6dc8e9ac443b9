"""Calibration data: opened from folders and files, checked, split, and read in batches."""

from cloakify.data.copies import Copies, open_copies
from cloakify.data.dataset import Batch, Dataset
from cloakify.data.open_data import Samples, open_data
from cloakify.data.preprocessing import Preprocessing
from cloakify.data.splits import Splits, split

__all__ = [
    "Batch",
    "Copies",
    "Dataset",
    "Preprocessing",
    "Samples",
    "Splits",
    "open_copies",
    "open_data",
    "split",
]
