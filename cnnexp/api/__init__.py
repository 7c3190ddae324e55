"""What Python calls: `cnnexp.train`, `sweep`, `report`, `Run`, `Study`. The same functions as the commands."""

from cnnexp.api.calls import report, sweep, train
from cnnexp.api.run import Run
from cnnexp.api.study import Study

__all__ = ["Run", "Study", "report", "sweep", "train"]
