"""Acts on what the exporter observes: forces a running-xacts record where a slot waits for one."""
