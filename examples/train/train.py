"""Fit a line to noisy points, each run with another seed, and keep the model."""

import json
import os
import random

run = int(os.environ.get("K8R_INDEX", "0"))
random.seed(run)
points = [(x / 100, 3 * x / 100 + 1 + random.gauss(0, 0.1)) for x in range(100)]
slope = offset = 0.0
for _ in range(2000):
    errors = [(x, slope * x + offset - y) for x, y in points]
    slope -= 0.5 * sum(error * x for x, error in errors) / len(points)
    offset -= 0.5 * sum(error for _, error in errors) / len(points)
os.makedirs("results", exist_ok=True)
with open("results/model.json", "w", encoding="utf-8") as file:
    json.dump({"run": run, "slope": slope, "offset": offset}, file)
print(f"slope {slope:.3f}, offset {offset:.3f}")
