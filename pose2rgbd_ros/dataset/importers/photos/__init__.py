"""Photographs with GPS to a dataset."""
