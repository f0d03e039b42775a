"""Everything is in setup.cfg; this file lets `pip install -e underlay` find it."""

from setuptools import setup

setup()
