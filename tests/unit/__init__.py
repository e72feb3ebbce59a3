"""Tests of k8r without a cluster, a network or a container."""
