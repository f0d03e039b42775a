"""Depth from several posed images."""
