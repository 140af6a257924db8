"""For testing agents: models that write what a test says."""

from hermes_agent.testing.scripted import ScriptedModel

__all__ = ["ScriptedModel"]
