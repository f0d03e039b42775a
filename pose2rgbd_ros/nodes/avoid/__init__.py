"""Depth images -> scans and distances for the autopilot."""
