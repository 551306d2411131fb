"""Where members run: a file or folder a platform, each yielding the same `Machine`."""
