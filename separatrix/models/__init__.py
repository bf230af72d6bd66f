"""Networks made of mixers."""

from separatrix.models.autoregression import RidgeAutoregression
from separatrix.models.backbone import Backbone, Visit
from separatrix.models.forecaster import ForecastModel
from separatrix.models.free_run import FreeRunSystem
from separatrix.models.pointwise import Pointwise
from separatrix.models.stepper import Stepper

__all__ = ["Backbone", "ForecastModel", "FreeRunSystem", "Pointwise", "RidgeAutoregression", "Stepper", "Visit"]
