"""What can be done to a cluster, one file each: its statements, what may be done with them, and why not."""
