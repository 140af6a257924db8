"""For testing agents: models that write what a test says, or what was recorded."""

from hermes_agent.testing.recorder import Recorder
from hermes_agent.testing.replay import Replay, TapeMismatchError
from hermes_agent.testing.scripted import ScriptedModel

__all__ = ["Recorder", "Replay", "ScriptedModel", "TapeMismatchError"]
