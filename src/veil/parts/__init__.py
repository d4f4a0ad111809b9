"""What models are made of: networks, heads, priors, gates, experts, covariances, dynamics."""
