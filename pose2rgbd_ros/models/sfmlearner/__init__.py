"""SfMLearner: depth and ego-motion from plain video, learnt together by view synthesis."""
