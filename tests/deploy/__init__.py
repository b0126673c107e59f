"""Tests of the deployment files: Docker image, compose, Kubernetes, systemd, CI workflow."""
