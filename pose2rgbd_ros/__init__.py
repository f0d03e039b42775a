"""pose2rgbd: from a recorded flight to a node that renders RGB and depth at the current TF pose."""

import os

# OpenMP threads that wait should sleep, not spin: on a machine that also runs a simulator or a recorder, spinning made
# training on two cores up to seventeen times slower. Read when torch loads, so it has to be set before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
