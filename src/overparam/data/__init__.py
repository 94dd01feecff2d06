"""Reading files and bundled data sets as probability measures."""

from overparam.data.dataset import Dataset, Fitted, load
from overparam.data.preprocess import Preprocessing, fit_preprocessing
from overparam.data.raw import RawData, RowNames
from overparam.data.targets import TargetCoding, fit_coding

__all__ = [
    "Dataset",
    "Fitted",
    "Preprocessing",
    "RawData",
    "RowNames",
    "TargetCoding",
    "fit_coding",
    "fit_preprocessing",
    "load",
]
