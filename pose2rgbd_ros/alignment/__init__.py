"""How far two clocks are apart, seen from what they stamped: optical flow against speed and turn rate."""
