"""Recordings, photographs and videos to a dataset."""
