"""Fit a slope with a batch of SIZE MiB, or of one that grows with the pod's index."""

import os
import sys

size = int(sys.argv[1]) if sys.argv[1:] else 8 << int(os.environ.get("K8R_INDEX", "0"))
batch = os.urandom(1 << 20) * size  # the memory that a model of that size would need
slope, rate = 0.0, 4 / size
for step in range(100):
    slope -= rate * (slope - 3)
print(f"{len(batch) >> 20} MiB: slope {slope:.3f} after 100 steps of {rate:.3f}")
