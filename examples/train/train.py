"""Fit a line to points, with a learning rate that depends on the run."""

import json
import os
import random

index = int(os.environ.get("K8R_INDEX", "0"))
rate = 0.01 * 3**index
points = [(x / 50, 2 * x / 50 + 1 + random.gauss(0, 0.1)) for x in range(50)]
slope = offset = 0.0

os.makedirs("results", exist_ok=True)
with open("results/loss.csv", "w") as log:
    for step in range(200):
        errors = [(slope * x + offset - y, x) for x, y in points]
        slope -= rate * sum(error * x for error, x in errors) / len(points)
        offset -= rate * sum(error for error, _ in errors) / len(points)
        loss = sum(error**2 for error, _ in errors) / len(points)
        print(step, loss, sep=",", file=log)
with open("results/model.json", "w") as file:
    json.dump({"rate": rate, "slope": slope, "offset": offset, "loss": loss}, file)
print(f"rate {rate:.2f}: loss {loss:.4f}")
