"""The originals as an oracle: what Kubernetes' and docker's own Go packages make of an input.

main.go answers questions; its program is built once for each state of the module, and kept with
the test cluster's builds or, where that folder cannot be written, with the tests' own cache.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Any, Dict, List, Optional, Type

HERE = Path(__file__).resolve().parent
Answer = Dict[str, Any]


class NoOracle(Exception):
    """The program cannot be built here; the reason is for people."""


def cache() -> Path:
    """Where builds are kept."""
    of_cluster = Path(os.environ.get("K8R_CLUSTER_CACHE", "/var/cache/k8r-test-cluster"))
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    of_tests = Path(os.environ.get("K8R_TEST_CACHE") or home / "k8r-tests")
    for folder in (of_cluster, of_tests):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK):
            return folder
    raise NoOracle(f"neither {of_cluster} nor {of_tests} can be written")


def go(*args: str) -> str:
    """Run Go in the module; returns what it prints; raises NoOracle."""
    program = shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin:/usr/lib/go/bin")
    if not program:
        raise NoOracle("Go is needed (not on PATH, not in /usr/local/go)")
    done = subprocess.run(
        [program, *args],
        cwd=HERE,
        env={**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    if done.returncode != 0:
        raise NoOracle(f"go {args[0]}: {done.stderr.decode('utf-8', 'replace').strip()}")
    return done.stdout.decode().strip()


def build() -> Path:
    """The program, built if need be; raises NoOracle."""
    sources = (HERE / name for name in ("go.mod", "go.sum", "main.go"))
    key = hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    folder = cache()
    program = folder / f"oracle-{key}"
    with open(folder / "oracle.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            made = program.with_suffix(".new")
            go("build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", str(made), ".")
            made.rename(program)
    return program


def module_folder(module: str) -> Path:
    """Where Go keeps a module's own sources, test tables included; raises NoOracle."""
    go("mod", "download", module)
    return Path(go("list", "-m", "-f", "{{.Dir}}", module))


class Oracle:
    """The running program. Its environment is empty, unless a question gives it one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [str(build())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={}
        )

    def __enter__(self) -> Oracle:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        self._process.wait()
        self._process.stdout.close()  # type: ignore[union-attr]

    def ask(self, op: str, **question: Any) -> Answer:
        """Ask one question. An input that the original refuses has an "error" in its answer."""
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps({"op": op, **question}).encode() + b"\n")
        self._process.stdin.flush()
        answer: Answer = json.loads(self._process.stdout.readline())
        assert "misuse" not in answer, answer["misuse"]
        return answer

    def image(self, text: str) -> Answer:
        """An image reference: text, familiar, domain, path, tag, digest; any: an ID counts, too."""
        return self.ask("image", text=text)

    def wrong_name(self, kind: str, text: str) -> Optional[str]:
        """What is wrong with a name, or None.

        Kinds: env (as of Kubernetes 1.34), env_strict (before), config_key, label_value, label_key,
        dns_label, dns_subdomain, dns1035_label, port_name.
        """
        wrong: Optional[str] = self.ask("name", kind=kind, text=text).get("error")
        return wrong

    def quantity(self, text: str) -> Answer:
        """A quantity: canonical, milli (thousandths, rounded up), decimal (exact)."""
        return self.ask("quantity", text=text)

    def kubeconfig(
        self,
        env: Dict[str, str],
        cwd: Path,
        **options: str,
    ) -> Answer:
        """What kubectl makes of an environment (HOME, KUBECONFIG), in a directory, with options.

        The answer has server, token, ca_file, … of the context that it takes; "stage" tells where
        an error arose: load, namespace or config. A token from a file is not yet stripped, which
        client-go does as it sends it.
        """
        asked = {name.replace("_", "-"): value for name, value in options.items()}
        return self.ask("kubeconfig", env=env, cwd=str(cwd), options=asked)

    def proxy(self, url: str, http: str = "", https: str = "", no: str = "") -> str:
        """The proxy of the environment's variables that Go takes for a URL, or ""."""
        found: str = self.ask("proxy", URL=url, HTTP=http, HTTPS=https, No=no)["proxy"]
        return found

    def patch(self, template: Any, patch: Any) -> Answer:
        """The strategic merge of a pod template: result; "decoding" if its types are wrong."""
        return self.ask("patch", template=template, patch=patch)

    def env_file(self, path: Path, env: Dict[str, str]) -> Answer:
        """The lines KEY=VALUE that docker run --env-file makes of a file."""
        return self.ask("env_file", path=str(path), env=env)

    def ignored(self, text: str, paths: List[str]) -> Answer:
        """Which of the paths a .dockerignore leaves out: ignored; patterns, as they were read."""
        return self.ask("ignore", text=text, paths=paths)
