"""The grammar texts, as files, installed as `hermes_agent.grammars`."""
