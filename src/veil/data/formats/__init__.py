"""Data in files: tables, arrays and images, whole or as streams."""
