"""Proximal policy optimisation: the agent that everybody knows, with a second value for what is new."""
