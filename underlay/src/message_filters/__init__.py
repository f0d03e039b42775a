"""The stand-in for Jazzy's message_filters (Python). See underlay/README.md."""

from message_filters.cache import Cache
from message_filters.simple_filter import Chain, SimpleFilter, Subscriber
from message_filters.synchronizers import ApproximateTimeSynchronizer, TimeSynchronizer

__all__ = ["ApproximateTimeSynchronizer", "Cache", "Chain", "SimpleFilter", "Subscriber", "TimeSynchronizer"]
