"""Everything is in setup.cfg; this file lets `pip install -e .` and colcon find it."""

from setuptools import setup

setup()
