"""Ready-made tools, installed as `hermes_agent.toolbox`."""
