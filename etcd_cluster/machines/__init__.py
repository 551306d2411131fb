"""Provides the machines of members: a file or folder for each platform, each yielding the same `Machine`."""
