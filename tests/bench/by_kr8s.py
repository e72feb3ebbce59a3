"""What a script with kr8s does for a command: create a Job, wait for its end, print its log.

Arguments: the namespace, the image, and the command's words.
"""

from __future__ import annotations

import sys

import kr8s
from kr8s.objects import Job

namespace, image, *command = sys.argv[1:]
container = {"name": "main", "image": image, "command": command}
pod = {"restartPolicy": "Never", "containers": [container]}
job = Job(
    {
        "metadata": {"name": "echo", "namespace": namespace},
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }
)
job.create()
job.wait(["condition=Complete", "condition=Failed"])
for found in kr8s.get("pods", namespace=namespace, label_selector="job-name=echo"):
    for line in found.logs():
        print(line)
