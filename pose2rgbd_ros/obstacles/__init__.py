"""What stands in the way, from depth images: clouds, scans, clearances, time to collision. No ROS here."""
