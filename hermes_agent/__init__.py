"""Trustworthy tools and structured output for open-weight models that speak the Hermes format."""
