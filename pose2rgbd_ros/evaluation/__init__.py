"""Tables and contact sheets, always beside two baselines."""
