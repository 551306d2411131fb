"""Runs on one machine: texts of files and scripts (render, pure), the scripts, and the Commands that run them."""
