"""What has no probability in it: files, signals, progress, devices, metrics, checkpoints."""
