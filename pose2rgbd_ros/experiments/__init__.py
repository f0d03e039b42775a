"""Tables of many trainings, each by one command that can be stopped and goes on where it was."""
