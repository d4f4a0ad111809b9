"""Continuous control as inference: soft actor-critic, and what an actor must be after, by inverse soft Q."""
