"""For testing agents: models that need no weights and no network, and a switch that keeps the others from writing."""

from hermes_agent.models.permission import RequestsForbiddenError, forbid_model_requests
from hermes_agent.testing.filling import FillingModel
from hermes_agent.testing.recorder import Recorder
from hermes_agent.testing.replay import Replay, TapeMismatchError
from hermes_agent.testing.scripted import ScriptedModel, ScriptedTurn

__all__ = [
    "FillingModel",
    "Recorder",
    "Replay",
    "RequestsForbiddenError",
    "ScriptedModel",
    "ScriptedTurn",
    "TapeMismatchError",
    "forbid_model_requests",
]
