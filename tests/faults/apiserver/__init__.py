"""A Kubernetes API server on the loopback interface that misbehaves on request.

It speaks the real wire format over plain HTTP/1.1: keep-alive, chunked watches and logs,
`Status` objects for errors. Behind it a small simulation plays the Job controller, the
Deployment controller, the garbage collector and the kubelet; what a pod does is written down
in a `PodScript`. `Fault` rules say which requests go wrong and how.

    with FakeCluster(PodScript(lines=["hello"], exit_code=3)) as cluster:
        cluster.fault(Match("GET", r"/log$", follow="true"), Cut("reset", after_lines=1))
        subprocess.run(["k8r", "--kubeconfig", cluster.kubeconfig(path), "./", "--", "true"])
        assert cluster.count("POST", r"/jobs$") == 1
"""

from .cluster import FakeCluster
from .faults import Cut, Delay, Down, Fault, Gone, Match, Outage, Reset, Respond, Split, Stall
from .faults import foreign
from .messages import Answer, Request
from .resources import Obj
from .scripts import Foreign, Line, PodScript, Timing, numbered
from .server import Server

__all__ = [
    "Answer",
    "Cut",
    "Delay",
    "Down",
    "FakeCluster",
    "Fault",
    "Foreign",
    "Gone",
    "Line",
    "Match",
    "Obj",
    "Outage",
    "PodScript",
    "Request",
    "Reset",
    "Respond",
    "Server",
    "Split",
    "Stall",
    "Timing",
    "foreign",
    "numbered",
]
