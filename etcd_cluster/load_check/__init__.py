"""Loads a cluster as its size promises, and judges what it measures."""
