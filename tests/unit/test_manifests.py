"""Manifests: what is sent to the cluster, compared with golden files and tried in a real shell.

K8R_UPDATE_GOLDEN=1 writes the golden files anew; the tests then fail once, so that
nobody's pipeline takes a change for approved.
"""

from __future__ import annotations

import base64
import copy
import difflib
import io
import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import k8r

GOLDEN = Path(__file__).parent / "golden"
UPDATE = bool(os.environ.get("K8R_UPDATE_GOLDEN"))


def work(**changes: Any) -> k8r.Workload:
    """An image run with a command, but for the changes."""
    plain: Dict[str, Any] = {
        "name": "train",
        "base": "train",
        "run_id": "0123abcd",
        "source_type": "container",
        "image": "docker.io/library/python:3-slim",
        "command": ("python", "-c", "print('hello')"),
    }
    fields = {**plain, **changes}
    own = {key: value for key, value in fields.items() if key in k8r.Workload._fields}
    options = {key: value for key, value in fields.items() if key not in own}
    return k8r.Workload(options=k8r.RunOptions("", **options), **own)


def directory(chunks: int = 1, **changes: Any) -> k8r.Workload:
    """A directory run."""
    plain = {
        "source_type": "directory",
        "image": "alpine:latest",
        "setup": k8r.build_unpack_script(chunks),
        "chunks": chunks,
        "command": ("make", "all"),
    }
    return work(**{**plain, **changes})


def github(secret: Optional[str] = None, **changes: Any) -> k8r.Workload:
    """A repository run; `ref` and the like go to its clone."""
    chosen = {key: changes.pop(key) for key in ("ref", "depth", "any_host_key") if key in changes}
    plain = {
        "source_type": "github",
        "image": "alpine:latest",
        "setup": k8r.build_cloned_script(),
        "clone": k8r.Clone("https://github.com/org/repo.git", k8r.GitOptions(**chosen), secret),
        "command": ("make", "all"),
    }
    return work(**{**plain, **changes})


SECRETS = (
    k8r.SecretUse("db", "train-db", ("password", "tls.crt")),
    k8r.SecretUse("token", "train-token", ("token",)),
    k8r.SecretUse("raw", "train-raw", ()),
)

PATCH = {
    "metadata": {"annotations": {"team": "ml"}},
    "spec": {
        "nodeSelector": {"gpu": "a100"},
        "enableServiceLinks": None,
        "containers": [{"name": "main", "env": [{"name": "EXTRA", "value": "1"}]}],
        "volumes": [{"name": "cache", "emptyDir": {}}],
    },
}

CASES: Dict[str, k8r.Workload] = {
    "github": github(),
    "github-ref-secret": github(
        "git-token", ref="v1.2", depth=50, any_host_key=True, restricted=True, command=()
    ),
    "secrets": work(secrets=SECRETS, env=(("TOKEN", "mine"),), pull_secrets=("pull-1", "pull-2")),
    "patch": directory(patch=PATCH),
    "second-run": work(name="train-1"),
    "deployment": work(as_deployment=True, num=3, command=("serve",)),
    "deployment-directory-port": directory(as_deployment=True, ports=(8080,)),
    "container-command": work(),
    "container-no-command": work(command=()),
    "container-odd-command": work(
        command=("sh", "-c", "echo 'a  b' \"$HOME\"\nexit 3\n", "", "--", "- x", "ä", "\t", "yes")
    ),
    "container-restricted": work(restricted=True),
    "directory-1-chunk": directory(),
    "directory-3-chunks": directory(3),
    "directory-no-command": directory(command=()),
    "directory-restricted": directory(restricted=True),
    "num-5": directory(num=5, parallel=2, retry=3, timeout=5400),
    "num-5-all-at-once": work(num=5, parallel=9),
    "retry-timeout-rm": work(retry=2, timeout=60, ttl=600),
    "resources-env": work(
        env=(("A", "1"), ("EMPTY", ""), ("LINES", "a\nb\n"), ("K8R_JOB", "mine"), ("A", "2")),
        resources=k8r.parse_resources("2gb-8gb", "500m-2", 1),
    ),
    "gpu-only": work(resources=k8r.parse_resources(None, None, 2)),
    "nodes": directory(num=4, nodes=True, resources=k8r.parse_resources(None, None, 8)),
    "nodes-image": work(num=2, nodes=True, command=("./run", "a b")),
    "placed": work(
        gpu_type="H100",
        node_selector=(("disk", "ssd"), ("zone", "a")),
        toleration=tuple(map(k8r.parse_toleration, ("gpu", "dedicated=ml:NoSchedule", "a="))),
        service_account="reader",
        label=(("team", "ml"), ("k8r-job", "mine")),
    ),
}

BUILT = "gcr.io/default-project/train@sha256:" + "ab" * 32
BY_SOURCE: Dict[str, Callable[..., k8r.Workload]] = {
    "directory": directory,
    "github": github,
    "dockerfile": lambda **changes: work(source_type="dockerfile", image=BUILT, **changes),
    "container": work,
}
CASES.update(
    {
        f"each-{source}-{kind}{'-secret' if secrets else ''}": make(
            as_deployment=kind == "deployment", secrets=secrets
        )
        for source, make in BY_SOURCE.items()
        for kind in ("job", "deployment")
        for secrets in ((), SECRETS[:1])
    }
)


OUT = (("results", ""), ("/out", "here"))
HIDDEN = {"spec": {"containers": [{"name": "main", "securityContext": {"runAsUser": 7}}]}}
CASES.update(
    {
        "results-directory": directory(out=OUT, hold=600, patch=HIDDEN),
        "results-container-restricted": work(out=OUT[1:], restricted=True),
        "volumes": work(volume=(("data", "/data"), ("old", "/old:ro")), shm="1Gi"),
    }
)


def objects(workload: k8r.Workload) -> List[Dict[str, Any]]:
    """What `--show-yaml` prints."""
    maps = [
        k8r.build_configmap(workload, part, f"part {part}".encode())
        for part in range(workload.chunks)
    ]
    return [
        *([k8r.build_service(workload)] if workload.ports or workload.options.nodes else []),
        *maps,
        k8r.build_root(workload),
    ]


@pytest.fixture(params=sorted(CASES))
def case(request: Any) -> str:
    """The name of each case."""
    name: str = request.param
    return name


def test_golden(case: str) -> None:
    """The printed objects are those that were looked at when the file was committed."""
    text = "".join(k8r.format_yaml(objects(CASES[case])))
    path = GOLDEN / f"{case}.yaml"
    if UPDATE:
        path.write_text(text, encoding="utf-8")
        pytest.fail(f"{path.name} was written anew; look at it, then run without K8R_UPDATE_GOLDEN")
    golden = path.read_text(encoding="utf-8")
    changed = difflib.unified_diff(golden.splitlines(), text.splitlines(), path.name, "now", n=2)
    assert text == golden, "\n".join(changed)


def test_no_golden_file_is_left_over() -> None:
    """Each golden file belongs to a case."""
    assert {path.stem for path in GOLDEN.iterdir()} == set(CASES)


def test_yaml_is_the_object(case: str) -> None:
    """YAML's own reader gets back what went in."""
    documents = objects(CASES[case])
    assert list(yaml.safe_load_all("".join(k8r.format_yaml(documents)))) == documents


@settings(max_examples=50)
@given(st.recursive(st.text() | st.integers() | st.booleans() | st.none(), st.lists, max_leaves=8))
def test_any_yaml_is_the_object(value: Any) -> None:
    """For any text at all: block style must not change it."""
    text = "".join(k8r.format_yaml([{"value": value}]))
    assert yaml.safe_load(text) == {"value": value}


def test_yaml_is_for_people() -> None:
    """Scripts are blocks, keys keep their order, nothing is an alias."""
    text = next(k8r.format_yaml([{"b": "x\ny\n", "a": ["ä"] * 2, "c": "long " * 100 + "end"}]))
    assert text.startswith("---\nb: |\n  x\n  y\na:\n- ä\n- ä\nc: long long")
    shared = {"k": "v"}
    assert "&" not in next(k8r.format_yaml([[shared, shared]]))


def walk(value: Any) -> Iterator[Dict[str, Any]]:
    """All dicts in an object."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from walk(item)
    elif isinstance(value, list):
        for item in value:
            yield from walk(item)


def test_printed_objects_stand_alone(case: str) -> None:
    """They can be created as they are: no owner that does not exist, not suspended."""
    for part in walk(objects(CASES[case])):
        assert not {"ownerReferences", "suspend", "uid", "status", "namespace"} & set(part)


def test_everything_is_labelled(case: str) -> None:
    """Every object and pod template says whose it is."""
    workload = CASES[case]
    for item in objects(workload):
        made = [item["spec"]["template"]] if item["kind"] in ("Job", "Deployment") else []
        for place in [item, *made]:
            assert place["metadata"]["labels"] == {
                "created-by": "k8r",
                "k8r-job": workload.name,
                "k8r-source-type": workload.source_type,
                **({"k8r-type": "deployment"} if workload.options.as_deployment else {}),
                **({"team": "ml"} if case == "placed" else {}),
            }
            assert place["metadata"]["annotations"]["k8r-run-id"] == "0123abcd"
        assert item["metadata"]["annotations"]["k8r-base-name"] == "train"


def test_nothing_is_empty(case: str) -> None:
    """Manifests say only what they mean; an emptyDir and a variable may be empty."""
    for part in walk(objects(CASES[case])):
        for key, value in part.items():
            assert value not in (None, [], ()), key
            assert key in ("emptyDir", "value") or value not in ("", {}), key


def test_names_fit(case: str) -> None:
    """Even the longest name leaves the ConfigMaps' names legal, and apart."""
    long = CASES[case]._replace(name="x" * 63)
    names = [(item["kind"], item["metadata"]["name"]) for item in objects(long)]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 253 for _, name in names)


def test_equal_workloads_give_equal_manifests(case: str) -> None:
    """Nothing else has a say, such as the time."""
    assert objects(CASES[case]) == objects(CASES[case]._replace())


def test_archive_is_where_it_is_looked_for() -> None:
    """Each ConfigMap is projected once, under a name that sorts by its number."""
    workload = directory(64)
    spec = k8r.build_pod_template(workload, "Never")["spec"]
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == "source"]
    parts = [source["configMap"] for source in volume["projected"]["sources"]]
    assert [part["name"] for part in parts] == [
        k8r.name_archive_part(workload, n) for n in range(64)
    ]
    paths = [item["path"] for part in parts for item in part["items"]]
    assert paths == sorted(paths)
    made = k8r.build_configmap(workload, 7, bytes(range(256)))
    assert made["metadata"]["name"] == parts[7]["name"]
    (key,) = {item["key"] for part in parts for item in part["items"]}
    assert base64.b64decode(made["binaryData"][key]) == bytes(range(256))
    assert made["immutable"] is True


def test_limits_are_bytes_of_the_api_server() -> None:
    """All chunks of the largest archive have two digits, and a chunk fits a ConfigMap."""
    assert k8r.CHUNK_SIZE <= 1_048_576
    assert k8r.ARCHIVE_LIMIT // k8r.CHUNK_SIZE <= 100
    script = k8r.build_unpack_script(64)
    assert len(script) < 4096


@pytest.mark.parametrize(
    "num, parallel, expected", [(1, None, 1), (5, None, 5), (5, 2, 2), (5, 9, 5)]
)
def test_parallelism(num: int, parallel: Optional[int], expected: int) -> None:
    """All at once, unless less is asked for."""
    assert k8r.build_job(work(num=num, parallel=parallel))["spec"]["parallelism"] == expected


@pytest.mark.parametrize("num", [1, 2, 3, 100_000])
@pytest.mark.parametrize("retry", [0, 1, 999_999_999])
def test_retries_are_numbers_of_the_api(num: int, retry: int) -> None:
    """Its numbers have 32 bits, and each index has as many retries as were asked for."""
    spec = k8r.build_job(work(num=num, retry=retry))["spec"]
    limits = [spec[key] for key in ("backoffLimit", "backoffLimitPerIndex") if key in spec]
    assert all(0 <= limit < 1 << 31 for limit in limits)
    assert spec.get("backoffLimitPerIndex", spec["backoffLimit"]) == retry


@pytest.mark.parametrize("retry", [0, 1, 5])
def test_retries(retry: int) -> None:
    """Exactly that many for a pod, and for each index of several."""
    one, many = (k8r.build_job(work(num=num, retry=retry))["spec"] for num in (1, 3))
    assert one["backoffLimit"] == retry
    assert "backoffLimitPerIndex" not in one
    assert many["backoffLimitPerIndex"] == retry
    assert many["backoffLimit"] >= 3 * retry, "the whole must not stop what an index may do"
    assert one["template"]["spec"]["restartPolicy"] == "Never"


def test_restricted_pod() -> None:
    """All that the Pod Security Standard "restricted" asks for."""
    for made in (directory(restricted=True), github("x", restricted=True, secrets=SECRETS)):
        check_restricted(k8r.build_pod_template(made, "Never")["spec"])


def check_restricted(spec: Dict[str, Any]) -> None:
    """For every container, init ones included."""
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in [*spec["containers"], *spec.get("initContainers", [])]:
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    allowed = {"configMap", "emptyDir", "projected", "secret"}
    assert {key for volume in spec["volumes"] for key in volume} - {"name"} <= allowed


def test_variables() -> None:
    """K8R_INDEX and K8R_COUNT are there, and the user's own values win."""
    one = {entry["name"]: entry for entry in k8r.build_environment(work())}
    assert (one["K8R_INDEX"]["value"], one["K8R_COUNT"]["value"]) == ("0", "1")
    many = {entry["name"]: entry for entry in k8r.build_environment(work(num=3))}
    field = many["K8R_INDEX"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert field == "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert many["K8R_COUNT"]["value"] == "3"
    mine = k8r.build_environment(work(num=3, env=(("K8R_INDEX", "x"), ("A", "1"), ("A", "2"))))
    assert {"name": "K8R_INDEX", "value": "x"} in mine
    names = [entry["name"] for entry in mine]
    assert len(set(names)) == len(names)
    assert {"name": "A", "value": "2"} in mine


# Nodes


@pytest.mark.parametrize("tool", ["getent", "nslookup", "python3", ""])
@pytest.mark.parametrize("tries", [3, 13, 99])
def test_waiting_for_rank_0(tmp_path: Path, tool: str, tries: int) -> None:
    """With what the image has, until there is an address, or for so long; the clock is a file."""
    tools, clock, asked = tmp_path / "bin", tmp_path / "clock", tmp_path / "asked"
    tools.mkdir()
    for name in ("sh", "sed", "cat", "wc"):
        (tools / name).symlink_to(str(shutil.which(name)))
    ask = f'echo "$@" >> {asked}; [ $(wc -l < {asked}) -ge {tries} ]'
    stubs = {"date": f"cat {clock}", "sleep": f"echo $(($(cat {clock}) + 50)) > {clock}"}
    for name, text in {**stubs, **({tool: ask} if tool else {})}.items():
        (tools / name).write_text(f"#!/bin/sh\n{text}\n")
        (tools / name).chmod(0o755)
    clock.write_text("1000000\n")
    env = {"PATH": str(tools), "MASTER_ADDR": "train-0.train"}
    words = ["sh", "-c", k8r.AWAIT_NODES + "echo ran"]
    done = subprocess.run(words, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if tool and tries > 14 + 14 * (tool == "nslookup"):  # which is asked twice each time
        assert (done.returncode, done.stdout) == (125, b"")
        assert b"rank 0 (train-0.train) has had no address for 10 minutes" in done.stderr
    else:
        assert (done.returncode, done.stdout) == (0, b"ran\n")
    told = done.stderr.count(b"waiting for the address of rank 0 (train-0.train)")
    assert told == (bool(tool) and tries > 10 + 10 * (tool == "nslookup"))
    assert not tool or "train-0.train" in asked.read_text()


VARIABLES = ("code", "here", "n", "late", "domain")
PREPARED = [
    {"setup": "true", "env": tuple((name, "mine") for name in VARIABLES)},
    {"setup": "code=1 here=2", "rows": (k8r.Row(0, (("K8R_LINE", "x"), ("late", "mine"))),)},
    {"num": 2, "nodes": True, "setup": "true"},
    {"tty": True, "out": (("/out", ""),), "setup": "true"},
]


@pytest.mark.parametrize("options", PREPARED, ids=lambda options: " ".join(options))
@pytest.mark.parametrize("make", [work, directory])
def test_shell_text_leaves_variables_alone(
    make: Callable[..., k8r.Workload], options: Dict[str, Any]
) -> None:
    """The command's own shell sets no variable that a user, or a column, may have set."""
    made = make(**{key: value for key, value in options.items() if key != "setup"})
    prepared = made._replace(options=made.options._replace(setup=options["setup"]))
    words, _ = k8r.build_command_line(prepared)
    names = re.findall(r"(?:^|[\s;'(])([A-Za-z_]\w*)=", words[2], re.M)
    own = {name for name in names if not name.startswith("k8r_")}
    assert len(names) > 2 and own <= set(re.findall(r"\w+", options["setup"]))


def test_setup_leaves_variables_alone() -> None:
    """Those of the container are there after it as they were."""
    made = work()
    prepared = made._replace(options=made.options._replace(setup="true"))
    (shell, flag, script, name), _ = k8r.build_command_line(prepared, str)
    env = {**os.environ, **dict.fromkeys(VARIABLES, "mine")}
    told = 'printf %s "' + "/".join(f"${name}" for name in VARIABLES) + '"'
    done = subprocess.run(
        [shell, flag, script, name, "sh", "-c", told], env=env, stdout=subprocess.PIPE, check=True
    )
    assert done.stdout.split(b"\n")[-1] == b"/".join([b"mine"] * len(VARIABLES))


@pytest.mark.parametrize(
    "options", [{"num": 2, "nodes": True}, {"as_deployment": True, "ports": (80,)}]
)
def test_the_name_of_a_service(options: Dict[str, Any]) -> None:
    """One that begins with a digit is refused before anything is made."""
    k8r.build_root(work(name="3d"))
    with pytest.raises(k8r.UsageError, match="3d begins with a digit"):
        k8r.build_root(work(name="3d", **options))


# Suspended, owned


@pytest.mark.parametrize(
    "root, patch",
    [
        (k8r.build_job(directory()), {"suspend": True}),
        (k8r.build_deployment(directory(as_deployment=True, num=3)), {"replicas": 0}),
    ],
    ids=["job", "deployment"],
)
def test_suspended(root: Dict[str, Any], patch: Dict[str, Any]) -> None:
    """The same object, the original as it was, and a patch that starts it."""
    before = copy.deepcopy(root)
    made = k8r.suspend_root(root)
    assert root == before
    assert made["spec"] == {**root["spec"], **patch}
    assert dict(made, spec=root["spec"], metadata=root["metadata"]) == root
    started = k8r.merge(made, k8r.build_resumption(root))
    started["spec"].pop("suspend", None)
    assert started == root


def test_owned() -> None:
    """The same object with its owner, and the originals are as they were."""
    workload = directory()
    child, owner = k8r.build_configmap(workload, 0, b"x"), k8r.build_job(workload)
    owner["metadata"]["uid"] = "u-1"
    before = copy.deepcopy((child, owner))
    made = k8r.set_owner(child, owner)
    assert (child, owner) == before
    (reference,) = made["metadata"].pop("ownerReferences")
    assert made == child
    assert reference == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": "train",
        "uid": "u-1",
        "controller": False,
        "blockOwnerDeletion": False,
    }


def test_prune() -> None:
    """Zero and false mean something; empty things do not."""
    given_value = {"a": 0, "b": False, "c": None, "d": "", "e": [], "f": {}, "g": (), "h": [0]}
    assert k8r.prune(given_value) == {"a": 0, "b": False, "h": [0]}
    assert len(given_value) == 8


# Patches

# Examples of RFC 7396, appendix A.
RFC_7396 = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    (["a", "b"], ["c", "d"], ["c", "d"]),
    ({"a": "b"}, ["c"], ["c"]),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(
    "patch",
    [
        {"spec": 5},
        {"spec": None},
        {"spec": []},
        {"spec": {"containers": "main"}},
        {"spec": {"containers": None}},
        {"spec": {"containers": [{"name": "main", "securityContext": "x"}]}},
        {"spec": {"containers": [{"name": ["main"]}]}},
        {"spec": {"terminationGracePeriodSeconds": "x"}},
        {"metadata": "text"},
    ],
)
def test_a_patch_that_makes_no_pod(patch: Dict[str, Any]) -> None:
    """The API server is to say what is wrong with it."""
    work = directory(out=(("results", ""),), hold=600, patch=patch, retry=1)
    assert k8r.build_job(work)["spec"]["template"] is not None


@pytest.mark.parametrize("base, patch, merged", RFC_7396)
def test_merge(base: Any, patch: Any, merged: Any) -> None:
    """As the RFC has it, and the inputs are as they were."""
    before = copy.deepcopy((base, patch))
    assert k8r.merge(base, patch) == merged
    assert (base, patch) == before


LISTS: Dict[str, Tuple[str, List[Any], List[Any], List[Any]]] = {
    "new ones come last": (
        "containers",
        [{"name": "a", "x": 1, "l": [1]}, {"name": "b"}],
        [{"name": "c"}, {"name": "a", "y": 2, "l": [2]}],
        [{"name": "a", "x": 1, "y": 2, "l": [2]}, {"name": "b"}, {"name": "c"}],
    ),
    "two mounts of one volume": (
        "volumeMounts",
        [{"name": "workspace", "mountPath": "/workspace"}],
        [
            {"name": "workspace", "mountPath": "/a", "subPath": "a"},
            {"name": "workspace", "mountPath": "/b"},
        ],
        [
            {"name": "workspace", "mountPath": "/workspace"},
            {"name": "workspace", "mountPath": "/a", "subPath": "a"},
            {"name": "workspace", "mountPath": "/b"},
        ],
    ),
    "two protocols of one port": (
        "ports",
        [{"containerPort": 53}],
        [{"containerPort": 53, "protocol": "UDP"}, {"containerPort": 53, "name": "dns"}],
        [{"containerPort": 53, "name": "dns"}, {"containerPort": 53, "protocol": "UDP"}],
    ),
    "two equal ones of one patch": (
        "env",
        [{"name": "A", "value": "0"}],
        [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
        [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}],
    ),
    "devices": (
        "volumeDevices",
        [{"name": "a", "devicePath": "/dev/a"}],
        [{"name": "b", "devicePath": "/dev/a"}],
        [{"name": "b", "devicePath": "/dev/a"}],
    ),
    "one goes": (
        "volumeMounts",
        [{"name": "a", "mountPath": "/a"}, {"name": "b", "mountPath": "/b"}],
        [{"mountPath": "/a", "$patch": "delete"}],
        [{"name": "b", "mountPath": "/b"}],
    ),
    "all are replaced": (
        "env",
        [{"name": "A", "value": "0"}],
        [{"$patch": "replace"}, {"name": "B", "value": "1"}],
        [{"name": "B", "value": "1"}],
    ),
    "one is replaced": (
        "containers",
        [{"name": "a", "x": {"y": 1}}],
        [{"name": "a", "x": {"$patch": "replace", "z": 1}}],
        [{"name": "a", "x": {"z": 1}}],
    ),
    "a list without keys": ("tolerations", [{"key": "a"}], [{"key": "b"}], [{"key": "b"}]),
}


@pytest.mark.parametrize("field, base, patch, merged", LISTS.values(), ids=LISTS)
def test_merge_of_lists(field: str, base: Any, patch: Any, merged: Any) -> None:
    """Elements are told apart by Kubernetes' own keys; none of a patch is lost."""
    before = copy.deepcopy((base, patch))
    assert k8r.merge({field: base}, {field: patch}) == {field: merged}
    assert (base, patch) == before
    assert k8r.merge({field: base}, {field: None}) == {}


@pytest.mark.parametrize(
    "patch, word",
    [
        ({"$setElementOrder/env": []}, "$setElementOrder/env"),
        ({"$retainKeys": ["a"]}, "$retainKeys"),
        ({"$deleteFromPrimitiveList/finalizers": ["a"]}, "$deleteFromPrimitiveList/finalizers"),
        ({"$patch": "remove"}, "$patch"),
        ({"volumeMounts": [{"name": "a"}]}, "mountPath"),
        ({"containers": ["a"]}, "name"),
    ],
)
def test_patches_that_are_refused(patch: Any, word: str) -> None:
    """What would be understood otherwise than it is meant is named."""
    with pytest.raises(k8r.UsageError) as caught:
        k8r.merge({}, {"spec": patch})
    assert word in caught.value.message


def test_patch_of_a_pod() -> None:
    """The user's patch has the last word, and leaves the rest alone."""
    plain, patched = k8r.build_pod_template(work(), "Never"), k8r.build_pod_template(
        work(patch=PATCH), "Never"
    )
    spec = patched["spec"]
    assert "enableServiceLinks" not in spec and spec["nodeSelector"] == {"gpu": "a100"}
    (main,) = spec["containers"]
    assert main["env"] == [
        *plain["spec"]["containers"][0]["env"],
        {"name": "EXTRA", "value": "1"},
    ]
    assert main["command"] == plain["spec"]["containers"][0]["command"]
    assert patched["metadata"]["labels"] == plain["metadata"]["labels"]


@pytest.mark.parametrize(
    "patch, mounted",
    [
        ({}, False),
        ({"spec": {"nodeSelector": {"a": "b"}}}, False),
        ({"spec": {"serviceAccountName": "robot"}}, None),
        ({"spec": {"automountServiceAccountToken": True}}, True),
        ({"spec": {"serviceAccountName": "robot", "automountServiceAccountToken": False}}, False),
    ],
)
def test_credentials_for_the_api(patch: Any, mounted: Any) -> None:
    """Only a pod whose account was asked for has any, or one that was told to."""
    spec = k8r.build_pod_template(work(patch=patch), "Never")["spec"]
    assert spec.get("automountServiceAccountToken") is mounted


# Secrets


def test_secret() -> None:
    """The values are there, once; which of them can be variables is noted."""
    made = k8r.build_secret("db", "train", {"user": b"me", "key.pem": b"\0\xff"})
    assert made["metadata"]["name"] == "train-db"
    assert made["metadata"]["labels"] == {
        "created-by": "k8r",
        "k8r-job": "train",
        "k8r-secret": "db",
    }
    assert base64.b64decode(made["data"]["key.pem"]) == b"\0\xff"
    assert made["metadata"]["annotations"] == {
        "k8r-variable-keys": '["user"]',
        "k8r-job-name-given": "false",
    }


def test_masked() -> None:
    """No value is left to be printed, its length neither; the original is as it was."""
    made = k8r.build_secret("db", "train", {"a": b"swordfish", "b": b"x" * 1000})
    before = copy.deepcopy(made)
    hidden = k8r.mask_values(made)
    assert made == before
    assert set(hidden["data"]) == {"a", "b"}
    assert len(set(hidden["data"].values())) == 1
    text = "".join(k8r.format_yaml([hidden]))
    assert "swordfish" not in text and base64.b64encode(b"swordfish").decode() not in text


def test_secrets_of_a_container() -> None:
    """Values come by reference only: files for all keys, variables for those that can be."""
    spec = k8r.build_pod_template(work(secrets=SECRETS, env=(("DB_PASSWORD", "mine"),)), "Never")[
        "spec"
    ]
    (main,) = spec["containers"]
    variables = {entry["name"]: entry for entry in main["env"]}
    reference = variables["DB_TLS_CRT"]["valueFrom"]["secretKeyRef"]
    assert reference == {"name": "train-db", "key": "tls.crt"}
    assert {"TOKEN", "TOKEN_TOKEN"} <= set(variables)
    assert variables["DB_PASSWORD"] == {"name": "DB_PASSWORD", "value": "mine"}
    places = {volume["name"]: volume["secret"]["secretName"] for volume in spec["volumes"]}
    found = {mount["mountPath"]: places[mount["name"]] for mount in main["volumeMounts"]}
    assert found == {f"/k8r/secret/{use.name}": use.object_name for use in SECRETS}
    assert all(mount["readOnly"] for mount in main["volumeMounts"])


def test_credentials_of_a_clone() -> None:
    """They are in a Secret that only the clone's container sees."""
    made = k8r.build_clone_secret(github(), "me", "swordfish")
    assert base64.b64decode(made["data"]["password"]) == b"swordfish"
    workload = github(made["metadata"]["name"])
    spec = k8r.build_pod_template(workload, "Never")["spec"]
    (main,), (clone,) = spec["containers"], spec["initContainers"]
    assert {"name": "git-secret", "secret": {"secretName": made["metadata"]["name"]}} in spec[
        "volumes"
    ]
    assert "git-secret" in [mount["name"] for mount in clone["volumeMounts"]]
    assert not {"git-secret", "git-home"} & {mount["name"] for mount in main["volumeMounts"]}


# Deployments


def test_deployment() -> None:
    """Its selector finds its own pods, and does not change with a new run."""
    first = k8r.build_deployment(work(as_deployment=True, num=3))
    second = k8r.build_deployment(work(as_deployment=True, num=3, run_id="next", image="other"))
    assert first["spec"]["selector"] == second["spec"]["selector"]
    assert first["spec"]["template"] != second["spec"]["template"]
    chosen = first["spec"]["selector"]["matchLabels"]
    assert chosen.items() <= first["spec"]["template"]["metadata"]["labels"].items()
    assert (
        not chosen.items()
        <= k8r.build_job(work())["spec"]["template"]["metadata"]["labels"].items()
    )
    assert first["spec"]["template"]["spec"]["restartPolicy"] == "Always"
    index = [
        e
        for e in k8r.build_environment(work(as_deployment=True, num=3))
        if e["name"] == "K8R_INDEX"
    ]
    assert index == [{"name": "K8R_INDEX", "value": "0"}], "its pods have no index"


def test_service() -> None:
    """It leads to the Deployment's pods and their ports, which have names of their own."""
    workload = work(as_deployment=True, ports=(8080, 9090))
    made, root = k8r.build_service(workload), k8r.build_deployment(workload)
    assert made["spec"]["selector"] == root["spec"]["selector"]["matchLabels"]
    assert made["spec"]["ports"] == [
        {"name": "port-8080", "port": 8080},
        {"name": "port-9090", "port": 9090},
    ]
    (main,) = root["spec"]["template"]["spec"]["containers"]
    assert main["ports"] == [{"containerPort": 8080}, {"containerPort": 9090}]


# The scripts, in real shells


def shells() -> List[Any]:
    """The shells of this machine that an image may have as sh, each once."""
    found: Dict[str, List[str]] = {}
    for name in ("sh", "dash", "bash", "ksh", "mksh", "busybox"):
        path = shutil.which(name)
        if path:
            words = [name, "sh"] if name == "busybox" else [name]
            found.setdefault(os.path.realpath(path), words)
    return [pytest.param(words, id=words[0]) for words in found.values()]


@pytest.fixture(params=shells())
def shell(request: Any) -> List[str]:
    """Each of them."""
    words: List[str] = request.param
    return words


def expand(text: str, variables: Sequence[str] = ("HOME", "K8R_JOB", "X")) -> str:
    """What the kubelet makes of a word of command, args or env (third_party/forked/golang/
    expansion): the value of `$(NAME)`, if it knows one, and `$` of `$$`.
    """
    out, at = [], 0
    while at < len(text):
        char, following = text[at], text[at + 1 : at + 2]
        end = text.find(")", at)
        if char == "$" and following == "$":
            out.append("$")
            at += 2
        elif char == "$" and following == "(" and end >= 0:
            name = text[at + 2 : end]
            out.append("EXPANDED" if name in variables else f"$({name})")
            at = end + 1
        else:
            out.append(char)
            at += 1
    return "".join(out)


@given(st.text(alphabet="$()Xa ", max_size=12) | st.text())
def test_the_kubelet_changes_nothing(text: str) -> None:
    """Whatever a word has of $, it reaches the container as typed."""
    assert expand(k8r.escape_references(text)) == text
    command, args = k8r.build_command_line(work(command=("a", text)))
    assert [expand(word) for word in command + args] == ["a", text]
    _, args = k8r.build_command_line(directory(command=("a", text)))
    assert [expand(word) for word in args] == ["a", text]
    (entry,) = [e for e in k8r.build_environment(work(env=(("V", text),))) if e["name"] == "V"]
    assert expand(entry["value"]) == text


class Pod:
    """A directory in the place of a container's file system."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.workspace = path / "workspace"
        self.mount = path / "source"
        self.workspace.mkdir()
        self.mount.mkdir()
        monkeypatch.setattr(k8r, "WORKSPACE", str(self.workspace))
        monkeypatch.setattr(k8r, "ARCHIVE_MOUNT", str(self.mount))

    def run(
        self, shell: Sequence[str], folder: Path, command: Sequence[str], chunks: int = 1
    ) -> "subprocess.CompletedProcess[bytes]":
        """Pack a directory, put its parts into the mount, run the container's command."""
        archive = k8r.pack_directory(str(folder))
        with archive._file as file:
            file.seek(0)
            data = file.read()
        for part in range(chunks):
            size = -(-len(data) // chunks)
            chunk = data[part * size : (part + 1) * size]
            (self.mount / f"part-{part:02d}").write_bytes(chunk)
        return self.start(shell, command, chunks)

    def start(
        self, shell: Sequence[str], command: Sequence[str], chunks: int = 1
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run the container's command."""
        words = self.words(shell, command, chunks)
        return subprocess.run(
            words,
            cwd=str(self.workspace),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    @staticmethod
    def words(shell: Sequence[str], command: Sequence[str], chunks: int = 1) -> List[str]:
        """The container's command line, with another shell."""
        first, args = k8r.build_command_line(directory(chunks, command=tuple(command)))
        assert first[0] == "sh"
        return [*shell, *(expand(word) for word in [*first[1:], *args])]


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pod:
    """Where the scripts run."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return Pod(tmp_path, monkeypatch)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What is run."""
    path = tmp_path / "folder"
    (path / "sub").mkdir(parents=True)
    (path / "a file").write_text("content")
    (path / "sub" / "tool").write_text('#!/bin/sh\nprintf "<%s>" "$@"\n')
    (path / "sub" / "tool").chmod(0o755)
    return path


ARGUMENTS = [
    "$(HOME)",
    "$$(X) $$ $",
    "",
    " ",
    "a b",
    "'",
    '"',
    "$HOME",
    "`id`",
    "\\",
    "\\n",
    "*",
    "\n",
    "--",
    "-c",
    "ä",
    "\t",
]


@pytest.mark.parametrize("chunks", [1, 2, 64])
def test_syntax(shell: List[str], chunks: int) -> None:
    """Every shell can parse the script."""
    script = k8r.build_command_line(directory(chunks))[0][2]
    subprocess.run([*shell, "-n", "-c", script], check=True)


@pytest.mark.parametrize("chunks", [1, 3, 12])
def test_arguments_arrive_as_typed(pod: Pod, folder: Path, shell: List[str], chunks: int) -> None:
    """The command runs in the unpacked directory, its arguments byte for byte."""
    done = pod.run(shell, folder, ["sub/tool", *ARGUMENTS], chunks)
    expected = "".join(f"<{word}>" for word in ARGUMENTS)
    assert (done.returncode, done.stdout.decode(), done.stderr) == (0, expected, b"")
    assert (pod.workspace / "a file").read_text() == "content"


def test_bytes_that_are_no_text(pod: Pod, folder: Path, shell: List[str]) -> None:
    """The shell does not look at them."""
    word = os.fsdecode(b"\xff\xfe\x01")
    assert pod.run(shell, folder, ["printf", "%s", word]).stdout == b"\xff\xfe\x01"


def test_command_takes_the_shells_place(pod: Pod, folder: Path, shell: List[str]) -> None:
    """It is the process that was started, so that signals reach it."""
    pod.run(shell, folder, ["true"])
    words = pod.words(shell, ["sh", "-c", "echo $$"])
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert int(process.stdout.read()) == process.pid


@pytest.mark.parametrize("code", [0, 1, 3, 125, 255])
def test_exit_code(pod: Pod, folder: Path, shell: List[str], code: int) -> None:
    """The command's own code is the container's."""
    assert pod.run(shell, folder, ["sh", "-c", f"exit {code}"]).returncode == code


def test_command_that_is_missing(pod: Pod, folder: Path, shell: List[str]) -> None:
    """127 and 126, as for every shell."""
    assert pod.run(shell, folder, ["./gone"]).returncode == 127
    assert pod.start(shell, ["./a file"]).returncode == 126


def test_startup_script(pod: Pod, folder: Path, shell: List[str]) -> None:
    """It runs first, in the directory, executable or not; then the command does."""
    startup = folder / "k8s-startup.sh"
    startup.write_text("#!/bin/sh\npwd; echo started > made\n")
    for mode in (0o644, 0o755):
        startup.chmod(mode)
        done = pod.run(shell, folder, ["cat", "made"])
        assert done.stdout.decode() == f"{os.path.realpath(str(pod.workspace))}\nstarted\n"
        assert done.returncode == 0


def test_startup_script_alone(pod: Pod, folder: Path, shell: List[str]) -> None:
    """Without a command it is all that runs."""
    (folder / "k8s-startup.sh").write_text("echo alone\n")
    done = pod.run(shell, folder, [])
    assert (done.returncode, done.stdout) == (0, b"alone\n")


def test_startup_script_that_fails(pod: Pod, folder: Path, shell: List[str]) -> None:
    """The run fails with its code, it is named, and the command does not run."""
    (folder / "k8s-startup.sh").write_text("exit 7\n")
    done = pod.run(shell, folder, ["echo", "no"])
    assert (done.returncode, done.stdout) == (7, b"")
    assert done.stderr == b"k8r: k8s-startup.sh failed with exit code 7\n"


def test_archive_that_is_broken(pod: Pod, folder: Path, shell: List[str]) -> None:
    """The command does not run on half a directory."""
    (pod.mount / "part-00").write_bytes(b"no archive")
    done = pod.start(shell, ["echo", "no"])
    assert (done.returncode, done.stdout) == (125, b"")
    assert b"k8r: the image cannot unpack the directory" in done.stderr
    for chunks in (1, 3):
        assert pod.run(shell, folder, ["true"], chunks).returncode == 0
        (pod.mount / f"part-{chunks - 1:02d}").unlink()
        done = pod.start(shell, ["echo", "no"], chunks)
        assert (done.returncode, done.stdout) == (125, b"")


def test_image_without_tar(
    pod: Pod, folder: Path, shell: List[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said what the image lacks."""
    pod.run(shell, folder, ["true"])
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / shell[0]).symlink_to(str(shutil.which(shell[0])))
    monkeypatch.setenv("PATH", str(programs))
    done = pod.start(shell, ["echo", "no"])
    assert done.returncode == 125
    assert b"needs sh, tar, gzip" in done.stderr


def test_unpacked_tree(pod: Pod, folder: Path, shell: List[str]) -> None:
    """Links, empty directories and executable bits are there again."""
    (folder / "link").symlink_to("sub/tool")
    (folder / "broken").symlink_to("gone")
    (folder / "empty").mkdir()
    assert pod.run(shell, folder, ["true"], 2).returncode == 0
    assert os.readlink(str(pod.workspace / "link")) == "sub/tool"
    assert os.readlink(str(pod.workspace / "broken")) == "gone"
    assert (pod.workspace / "empty").is_dir()
    assert os.access(str(pod.workspace / "sub" / "tool"), os.X_OK)
    assert not os.access(str(pod.workspace / "a file"), os.X_OK)


class Repository:
    """A server's repository, and a place to clone it to with the script of the pod."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.origin = path / "origin"
        self.workspace = path / "clone"
        self.home = path / "git-home"
        self.secret = path / "git-secret"
        self.variables: Dict[str, str] = {}
        for folder in (self.origin, self.workspace, self.home):
            folder.mkdir()
        monkeypatch.setattr(k8r, "WORKSPACE", str(self.workspace))
        monkeypatch.setattr(k8r, "GIT_HOME", str(self.home))
        monkeypatch.setattr(k8r, "GIT_SECRET_MOUNT", str(self.secret))
        self.git("init", "-q", "-b", "main")
        self.git("config", "uploadpack.allowAnySHA1InWant", "true")
        self.commits = [self.commit(text) for text in ("one", "two", "three")]
        self.git("tag", "v1", self.commits[0])
        self.git("branch", "side/x", self.commits[1])

    def git(self, *args: str) -> str:
        """Run git in the server's repository."""
        person = ("-c", "user.name=n", "-c", "user.email=n@example.org")
        command = ["git", "-C", str(self.origin), *person, *args]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode().strip()

    def commit(self, text: str) -> str:
        """Commit a file with that text; the commit's id."""
        (self.origin / "file").write_text(text)
        self.git("add", "-A")
        self.git("commit", "-qm", text)
        return self.git("rev-parse", "HEAD")

    def clone(self, shell: Sequence[str], **options: Any) -> "subprocess.CompletedProcess[bytes]":
        """Do what the init container does."""
        made = k8r.Clone(self.origin.as_uri(), k8r.GitOptions(**options))
        container = k8r.build_clone_container(github(), made)
        variables = {entry["name"]: entry["value"] for entry in container["env"]}
        return subprocess.run(
            [*shell, *map(expand, container["command"][1:])],
            env={
                "PATH": os.environ["PATH"],
                "GIT_CONFIG_NOSYSTEM": "1",
                **variables,
                **self.variables,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    """Three commits, a branch and a tag."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return Repository(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "ref, text",
    [(None, "three"), ("main", "three"), ("v1", "one"), ("side/x", "two"), ("refs/tags/v1", "one")],
)
def test_clone(repository: Repository, ref: Optional[str], text: str) -> None:
    """A branch, a tag or nothing: just that commit is there, without a word."""
    done = repository.clone(["sh"], ref=ref)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert (repository.workspace / "file").read_text() == text
    assert len((repository.workspace / ".git" / "shallow").read_text().split()) == 1


@pytest.mark.parametrize("length", [40, 12, 7])
def test_clone_of_a_commit(repository: Repository, length: int) -> None:
    """A commit by its whole id or the start of it."""
    done = repository.clone(["sh"], ref=repository.commits[1][:length])
    assert done.returncode == 0, done.stderr
    assert (repository.workspace / "file").read_text() == "two"


def test_clone_of_a_missing_ref(repository: Repository) -> None:
    """git's own words come through, and the run does not go on."""
    done = repository.clone(["sh"], ref="gone")
    assert done.returncode == 128
    assert b"couldn't find remote ref gone" in done.stderr


def test_clone_without_a_server(repository: Repository) -> None:
    """Nor without the repository."""
    shutil.rmtree(str(repository.origin))
    done = repository.clone(["sh"])
    assert done.returncode != 0
    assert b"does not appear to be a git repository" in done.stderr


def test_credentials_reach_git_by_files(repository: Repository, shell: List[str]) -> None:
    """Whatever the keys are called: a key is for ssh, known_hosts too, the rest is a token."""
    repository.secret.mkdir()
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----"
    files = {"username": "me", "token": "swordfish", "id": key, "known_hosts": "h k"}
    for name, text in files.items():
        (repository.secret / name).write_text(text)
    done = repository.clone(shell)
    assert done.returncode == 0, done.stderr
    for question, answer in (
        ("Username for 'file://': ", b"me"),
        ("Password for 'file://': ", b"swordfish"),
    ):
        told = ask(repository.home / "askpass", repository.origin.as_uri(), question)
        assert told == answer
    assert (repository.home / "key").read_text() == key + "\n"
    assert (repository.home / "key").stat().st_mode & 0o777 == 0o600
    for name in ("askpass", "key", "password", "username"):
        assert (repository.home / name).stat().st_mode & 0o077 == 0, name
    for path in repository.workspace.rglob("*"):
        assert path.is_dir() or b"swordfish" not in path.read_bytes()


@pytest.mark.parametrize("ref", ["main", "v1"])
def test_clone_once_more(repository: Repository, shell: List[str], ref: str) -> None:
    """A node that restarts runs the container again, over what it left in whatever state."""
    repository.secret.mkdir()
    for name, text in {"username": "me", "id": "-----BEGIN PRIVATE KEY-----", "token": "t"}.items():
        (repository.secret / name).write_text(text)
        (repository.secret / name).chmod(0o400)
    assert repository.clone(shell, ref=ref).returncode == 0
    (repository.workspace / "file").write_text("half")
    for lock in ("index.lock", "shallow.lock", "config.lock"):
        (repository.workspace / ".git" / lock).touch()
    done = repository.clone(shell, ref=ref)
    assert (done.returncode, done.stderr) == (0, b"")
    assert (repository.workspace / "file").read_text() == {"main": "three", "v1": "one"}[ref]


def test_clone_over_the_work_of_others(repository: Repository) -> None:
    """What has not been cloned by k8r, such as a volume's, is left as it is."""
    subprocess.run(["git", "clone", "-q", str(repository.origin), "."], cwd=repository.workspace)
    (repository.workspace / "file").write_text("theirs")
    assert repository.clone(["sh"]).returncode != 0
    assert (repository.workspace / "file").read_text() == "theirs"


@pytest.mark.parametrize("default", ["sha1", "sha256"])
@pytest.mark.parametrize("ref", [None, "main", "{}", "{:.7}"])
def test_clone_of_another_format(
    repository: Repository, monkeypatch: pytest.MonkeyPatch, default: str, ref: Optional[str]
) -> None:
    """Repositories of SHA-1 and SHA-256, whatever git makes by default."""
    for path in (repository.origin / ".git", repository.origin / "file"):
        shutil.rmtree(str(path)) if path.is_dir() else path.unlink()
    made = "sha256" if default == "sha1" else "sha1"
    repository.git("init", "-q", "-b", "main", f"--object-format={made}")
    commit = repository.commit("other")
    repository.variables = {"GIT_DEFAULT_HASH": default}
    done = repository.clone(["sh"], ref=ref and ref.format(commit))
    assert done.returncode == 0, done.stderr
    assert (repository.workspace / "file").read_text() == "other"


def test_clone_of_an_ambiguous_ref(repository: Repository) -> None:
    """A branch and a tag of one name are told apart by their whole names only."""
    repository.git("branch", "v1", repository.commits[2])
    done = repository.clone(["sh"], ref="v1")
    assert done.returncode == 128
    assert b"--ref refs/heads/v1 or --ref refs/tags/v1" in done.stderr
    for ref, text in (("refs/heads/v1", "three"), ("refs/tags/v1", "one")):
        shutil.rmtree(str(repository.workspace))
        repository.workspace.mkdir()
        assert repository.clone(["sh"], ref=ref).returncode == 0
        assert (repository.workspace / "file").read_text() == text


def test_clone_of_a_pull_request(repository: Repository) -> None:
    """A ref that is neither a branch nor a tag, by its short name and by its whole one."""
    repository.git("update-ref", "refs/pull/7/head", repository.commits[1])
    for ref in ("pull/7/head", "refs/pull/7/head"):
        shutil.rmtree(str(repository.workspace))
        repository.workspace.mkdir()
        assert repository.clone(["sh"], ref=ref).returncode == 0
        assert (repository.workspace / "file").read_text() == "two"


def test_clone_of_an_empty_repository(repository: Repository) -> None:
    """It is said that there is nothing."""
    shutil.rmtree(str(repository.origin / ".git"))
    repository.git("init", "-q")
    done = repository.clone(["sh"])
    assert done.returncode == 128
    assert b"k8r: the repository is empty" in done.stderr


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


@pytest.mark.parametrize("configured", [False, True])
def test_clone_with_pointers(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, configured: bool
) -> None:
    """The image's own git configuration makes files of git LFS' pointers; without it they are
    named, where the run can see it although the clone succeeds.
    """
    note = tmp_path / "note"
    monkeypatch.setattr(k8r, "CLONE_NOTE", str(note))
    (repository.origin / ".gitattributes").write_text("*.bin filter=lfs -text\n")
    (repository.origin / "model.bin").write_text(POINTER)
    repository.commit("lfs")
    image = tmp_path / "image"
    image.mkdir()
    (image / "git-lfs").write_text("#!/bin/sh\nexit 1\n")  # though this machine may have it
    (image / "git-lfs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{image}:{os.environ['PATH']}")
    if configured:
        text = '[filter "lfs"]\nsmudge = echo REAL CONTENT\nrequired = true\n'
        (image / ".gitconfig").write_text(text)
    lfs = image / "git-lfs"  # in place of that of this machine
    lfs.write_text("#!/bin/sh\nexit 1\n")
    lfs.chmod(0o755)
    repository.variables = {"HOME": str(image), "PATH": f"{image}:{os.environ['PATH']}"}
    done = repository.clone(["sh"])
    assert done.returncode == 0, done.stderr
    content = (repository.workspace / "model.bin").read_text()
    assert content == ("REAL CONTENT\n" if configured else POINTER)
    pod: Dict[str, Any] = {"spec": {"initContainers": [{"name": "clone"}]}}
    pod["status"] = {"initContainerStatuses": [ended_clone(note.read_text())]}
    told = k8r.get_clone_note(pod)
    assert configured is not ("lacks git lfs" in told and "model.bin" in told)
    assert k8r.COMMIT_MARK not in told
    assert k8r.get_revision(pod) == repository.git("rev-parse", "HEAD").strip()


@pytest.fixture
def git_lfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put git lfs on PATH, from this machine or from the tests' cache, where tests/run has it."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("K8R_TEST_CACHE") or home / "k8r-tests")
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{cache / 'git-lfs/usr/bin'}")
    if not shutil.which("git-lfs"):
        reason = "there is no git lfs; install git-lfs, or have tests/run get it (Debian)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@pytest.mark.usefixtures("git_lfs")
def test_clone_with_git_lfs(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image with git lfs, but no configuration for it, has the files themselves."""
    monkeypatch.setattr(k8r, "CLONE_NOTE", str(tmp_path / "note"))
    monkeypatch.setenv("HOME", str(tmp_path))
    repository.variables = {"HOME": str(tmp_path)}
    repository.git("lfs", "install", "--local")
    (repository.origin / ".gitattributes").write_text("*.bin filter=lfs -text\n")
    (repository.origin / "model.bin").write_bytes(b"REAL\0CONTENT")
    repository.commit("lfs")
    assert POINTER[:40] in repository.git("cat-file", "blob", "HEAD:model.bin")
    done = repository.clone(["sh"])
    assert done.returncode == 0, done.stderr
    assert (repository.workspace / "model.bin").read_bytes() == b"REAL\0CONTENT"
    assert (tmp_path / "note").read_text().startswith(k8r.COMMIT_MARK)


def ended_clone(message: str) -> Dict[str, Any]:
    """The status of the container that cloned."""
    return {"name": "clone", "state": {"terminated": {"exitCode": 0, "message": message}}}


def test_clone_runs_no_hook(repository: Repository, tmp_path: Path) -> None:
    """Not those of a template of the image, or of the user's own git, either."""
    hooks = tmp_path / "template" / "hooks"
    hooks.mkdir(parents=True)
    (hooks / "post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path}/mark\n")
    (hooks / "post-checkout").chmod(0o755)
    repository.variables = {"GIT_TEMPLATE_DIR": str(tmp_path / "template")}
    assert repository.clone(["sh"]).returncode == 0
    assert not (tmp_path / "mark").exists()


def ask(askpass: Path, url: str, question: str) -> bytes:
    """What git is told for a login, "" if that is nothing."""
    env = {"PATH": os.environ["PATH"], "K8R_GIT_URL": url}
    told = subprocess.run([str(askpass), question], env=env, stdout=subprocess.PIPE)
    assert bool(told.stdout) == (told.returncode == 0)
    return told.stdout


ASKED = [
    ("https://h.org/x.git", "https://h.org", True),
    ("https://h.org/x.git", "https://u@h.org", True),
    ("https://h.org/x.git", "https://u:x@y@h.org", True),
    ("https://h.org:8443/x.git", "https://h.org:8443", True),
    ("http://[::1]:80/x", "http://[::1]:80", True),
    ("https://h.org/x.git", "http://h.org", False),
    ("https://h.org/x.git", "https://h.org:8443", False),
    ("https://h.org/x.git", "https://evil.org", False),
    ("https://h.org/x.git", "https://h.org.evil.org", False),
    ("https://h.org/x.git", "https://h.org@evil.org", False),
    ("https://h.org/x.git", "https://h.org/@evil.org", False),
    ("https://h.org/x.git", "https://h.org'@evil.org", False),
    ("https://h.org/x.git", "https://x for 'https://h.org'@evil.org", False),
    ("https://h.org/x.git", "https://evil.org?h.org", False),
    ("https://h.org/x.git", "ssh://h.org", False),
    ("https://h.org/x.git", "h.org", False),
    ("https://h.org/x.git", "", False),
]


@pytest.mark.parametrize("quote", "'\"")
@pytest.mark.parametrize("url, asked, told", ASKED)
def test_who_is_told_the_login(
    tmp_path: Path, url: str, asked: str, told: bool, quote: str
) -> None:
    """The URL's own scheme, host and port alone, as git and git-lfs ask for them."""
    script = k8r.ASKPASS.format(username="echo me", password="echo swordfish")
    subprocess.run(["sh", "-c", f"home={tmp_path}; {script}"], check=True)
    for question, answer in (("Username", b"me\n"), ("Password", b"swordfish\n")):
        said = ask(tmp_path / "askpass", url, f"{question} for {quote}{asked}{quote}: ")
        assert said == (answer if told else b"")


def test_clone_without_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository with neither a command nor a startup script is told so."""
    monkeypatch.setattr(k8r, "WORKSPACE", str(tmp_path))

    def run(*command: str) -> "subprocess.CompletedProcess[bytes]":
        words, args = k8r.build_command_line(github(command=command))
        return subprocess.run(
            [expand(word) for word in [*words, *args]],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
        )

    done = run()
    assert done.returncode == 125
    assert b"no command was given, and the repository has no k8s-startup.sh" in done.stderr
    assert run("pwd").stdout.decode().strip() == os.path.realpath(str(tmp_path))
    (tmp_path / "k8s-startup.sh").write_text("echo started")
    assert (run().returncode, run().stdout) == (0, b"started\n")


def test_clone_script_syntax(shell: List[str]) -> None:
    """Every shell can parse it."""
    for script in (k8r.build_clone_script(), k8r.build_cloned_script()):
        subprocess.run([*shell, "-n", "-c", script], check=True)


def test_container_command_is_not_touched() -> None:
    """An image's run has no shell in between, and without a command no command."""
    first, args = k8r.build_command_line(work(command=("a b", "", "$c")))
    assert (first, args) == (["a b", "", "$c"], [])
    container = k8r.build_container(work(command=()))
    assert not {"command", "args", "workingDir", "volumeMounts"} & set(container)


def test_members_of_the_archive_are_relative(folder: Path) -> None:
    """Nothing is unpacked outside of the workspace."""
    archive = k8r.pack_directory(str(folder))
    with archive._file as file:
        file.seek(0)
        with tarfile.open(fileobj=io.BytesIO(file.read())) as tar:
            assert all(not name.startswith(("/", "..")) for name in tar.getnames())
