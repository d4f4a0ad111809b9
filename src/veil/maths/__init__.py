"""Arrays in, arrays out: the mathematics, one subject a file, each function with its equation."""
