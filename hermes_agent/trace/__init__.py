"""What happened in a run, step by step with times, for people and for programs.

`RunResult.trace` and the errors' ``trace`` give one; `Trace.load` reads one from a file.
"""

from hermes_agent.trace.run import Trace
from hermes_agent.trace.values import CallState, Outcome, TracedCall, TracedShortening, TracedStep

__all__ = ["CallState", "Outcome", "Trace", "TracedCall", "TracedShortening", "TracedStep"]
