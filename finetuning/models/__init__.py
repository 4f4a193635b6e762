from finetuning.models.attempts import Attempt
from finetuning.models.datasets import Dataset, DatasetVersion
from finetuning.models.estimates import Estimate
from finetuning.models.quotas import ComputeQuota
from finetuning.models.runs import Run, RunEvent

__all__ = ["Attempt", "ComputeQuota", "Dataset", "DatasetVersion", "Estimate", "Run", "RunEvent"]
