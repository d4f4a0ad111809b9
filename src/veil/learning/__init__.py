"""How models learn: EM and gradients, the one loop around them, and the verb ``fit``."""
