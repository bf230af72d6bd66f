"""Networks made of mixers."""

from separatrix.models.autoregression import Autoregression
from separatrix.models.backbone import Backbone, Visit
from separatrix.models.forecaster import ForecastModel
from separatrix.models.free_run import FreeRun
from separatrix.models.pointwise import Pointwise
from separatrix.models.stepper import Stepper

__all__ = ["Autoregression", "Backbone", "ForecastModel", "FreeRun", "Pointwise", "Stepper", "Visit"]
