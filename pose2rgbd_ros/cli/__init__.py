"""The same jobs from a shell: pose2rgbd COMMAND."""
