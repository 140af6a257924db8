"""``python -m hermes_agent.cli`` is ``hermes-sdk``."""

from hermes_agent.cli import main

main()
