"""Ready-made tools, installed as ``hermes_agent.toolbox``.

Each is a plain typed function, or a small value whose methods are tools bound to a folder, a database or a policy::

    Agent(tools=[calculator, clock, fetch, Files("notes").read_file, Database("shop.db").query])
"""

from hermes_agent.toolbox.arithmetic import calculator
from hermes_agent.toolbox.folder import Files
from hermes_agent.toolbox.sqlite import Database
from hermes_agent.toolbox.times import Clock, clock
from hermes_agent.toolbox.web import FetchError, Http, fetch

__all__ = ["Clock", "Database", "FetchError", "Files", "Http", "calculator", "clock", "fetch"]
