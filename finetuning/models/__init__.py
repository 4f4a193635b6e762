from finetuning.models.attempts import Attempt
from finetuning.models.datasets import Dataset, DatasetVersion
from finetuning.models.runs import Run, RunEvent

__all__ = ["Attempt", "Dataset", "DatasetVersion", "Run", "RunEvent"]
