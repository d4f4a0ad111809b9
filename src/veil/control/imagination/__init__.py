"""Learning to act inside a world model: policy and critic from futures that the model draws, and no environment."""
