"""Lightning callbacks: resuming, averaging of weights, pictures, progress and speed."""

from gauntlet.callbacks.averaging import ExponentialAveraging
from gauntlet.callbacks.pictures import TrainingPictures
from gauntlet.callbacks.progress import progress
from gauntlet.callbacks.resume import KeepResumable
from gauntlet.callbacks.speed import Speed

__all__ = ["ExponentialAveraging", "KeepResumable", "Speed", "TrainingPictures", "progress"]
