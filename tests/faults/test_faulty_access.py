"""Credentials and permissions: refreshed once, told clearly, never left out."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, Sequence, Tuple

import pexpect
import pytest

from apiserver import FakeCluster, Match, PodScript, Request, numbered
from helpers import anonymous, by_index, gone, job, left, patched, plugin, text

if TYPE_CHECKING:
    from tests.conftest import Cli

Serve = Callable[..., FakeCluster]
PHASES = {
    "create": Match("POST", "/jobs$"),
    "list": Match("GET", "/pods$", watch=None),
    "watch": Match("GET", "/pods$", watch="true"),
    "log": Match("GET", "/log$"),
}


def rotate(k8r: Cli, cluster: FakeCluster, when: Match, in_file: str) -> None:
    """When a request matches, let only the token "new" be valid, and put one into the file."""
    path = k8r.env["KUBECONFIG"]

    def change(request: Request) -> None:
        if when.accepts(request) and cluster.tokens != {"new"}:
            cluster.kubeconfig(path + ".part", user={"token": in_file})
            os.rename(path + ".part", path)
            cluster.tokens = {"new"}

    cluster.hook(change)


@pytest.mark.parametrize("phase", list(PHASES))
def test_case_9_the_token_is_rotated(k8r: Cli, serve: Serve, phase: str) -> None:
    """A 401 makes k8r read the kubeconfig again; the run goes on."""
    cluster = serve(PodScript(numbered(10, delay=0.05), exit_code=3))
    rotate(k8r, cluster, PHASES[phase], "new")
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (3, text(10)), result.err
    assert anonymous(cluster) == []


@pytest.mark.parametrize("phase", list(PHASES))
def test_case_9_the_token_has_expired(k8r: Cli, serve: Serve, phase: str) -> None:
    """No new token: a clear error within few requests, and how to come back."""
    cluster = serve(PodScript(run=600))
    rotate(k8r, cluster, PHASES[phase], "stale")
    process = k8r.start("alpine", "--", "true", prefix=patched(READ_TIMEOUT=2.0, RETRY_TIME=2.0))
    result = k8r.finish(process, timeout=30)
    assert result.code == 125
    assert "does not accept your credentials" in result.err and "Traceback" not in result.err
    assert len([request for request in cluster.requests if request.status == 401]) < 30
    if phase == "create":
        assert cluster.objects("jobs") == []
    else:
        assert "k8r logs -f alpine" in result.err


def test_case_9_another_current_context_is_not_followed(k8r: Cli, serve: Serve) -> None:
    """Reading the kubeconfig again must not lead the run into another cluster."""
    cluster = serve(PodScript(numbered(10, delay=0.05)))
    path = Path(k8r.env["KUBECONFIG"])
    config = json.loads(path.read_text())

    def change(request: Request) -> None:
        if PHASES["log"].accepts(request) and cluster.tokens != {"new"}:
            config["users"][0]["user"] = {"token": "new"}
            config["current-context"] = "other"
            config["clusters"].append({"name": "o", "cluster": {"server": "http://127.0.0.1:1"}})
            config["contexts"].append({"name": "other", "context": {"cluster": "o"}})
            path.write_text(json.dumps(config))
            cluster.tokens = {"new"}

    cluster.hook(change)
    result = k8r("alpine", "--", "true", timeout=30)
    assert (result.code, result.out) == (0, text(10)), result.err


CREDENTIAL = (
    '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", '
    '"status": {"token": "%s"}}'
)


def test_credentials_of_a_plugin(k8r: Cli, serve: Serve, tmp_path: Path) -> None:
    """A working plugin is asked again after a 401."""
    (tmp_path / "token").write_text(CREDENTIAL % "the-token")
    user = plugin(tmp_path, f"echo x >> {tmp_path}/calls; cat {tmp_path}/token")
    cluster = serve(PodScript(numbered(10, delay=0.05)), user=user)

    def change(request: Request) -> None:
        if PHASES["log"].accepts(request) and cluster.tokens != {"new"}:
            (tmp_path / "token").write_text(CREDENTIAL % "new")
            cluster.tokens = {"new"}

    cluster.hook(change)
    result = k8r("alpine", "--", "true")
    assert (result.code, result.out) == (0, text(10)), result.err
    assert 2 <= (tmp_path / "calls").read_text().count("x") <= 6
    assert anonymous(cluster) == []


def test_a_plugin_is_not_asked_once_per_stream(k8r: Cli, serve: Serve, tmp_path: Path) -> None:
    """20 followed logs that meet a 401 at the same time share one refresh or two."""
    (tmp_path / "token").write_text(CREDENTIAL % "the-token")
    user = plugin(tmp_path, f"echo x >> {tmp_path}/calls; sleep 0.2; cat {tmp_path}/token")
    cluster = serve(PodScript(numbered(10, delay=0.1)), user=user)

    def change(request: Request) -> None:
        if request.path.endswith("/log") and cluster.tokens != {"new"}:
            (tmp_path / "token").write_text(CREDENTIAL % "new")
            cluster.tokens = {"new"}

    cluster.hook(change)
    result = k8r("alpine", "--num", "20", "--", "true")
    assert result.code == 0, result.err
    assert by_index(result.out) == {index: text(10) for index in range(20)}
    assert (tmp_path / "calls").read_text().count("x") <= 4


BROKEN_PLUGINS: Dict[str, Tuple[str, str]] = {
    "fails": ("echo 'please run: cloud login' >&2; exit 1", "please run: cloud login"),
    "prints nonsense": ("echo hello", "plugin' failed"),
    "prints nothing": ("true", "plugin' failed"),
    "has no token": (
        'echo \'{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", '
        '"status": {}}\'',
        "plugin' failed",
    ),
}


@pytest.mark.parametrize("name", list(BROKEN_PLUGINS))
def test_case_10_a_broken_plugin(k8r: Cli, serve: Serve, tmp_path: Path, name: str) -> None:
    """Its own words are shown, and no request goes out."""
    script, words = BROKEN_PLUGINS[name]
    cluster = serve(user=plugin(tmp_path, script))
    result = k8r("alpine", "--", "true", timeout=30)
    assert result.code == 125 and words in result.err, result.err
    assert "credential plugin" in result.err and "Traceback" not in result.err
    assert cluster.requests == []


def test_case_10_a_plugin_that_is_not_there(k8r: Cli, serve: Serve, tmp_path: Path) -> None:
    """Its name is told, and no request goes out."""
    user = plugin(tmp_path, "")
    (tmp_path / "plugin").unlink()
    cluster = serve(user=user)
    result = k8r("alpine", "--", "true", timeout=30)
    assert result.code == 125 and f"{tmp_path}/plugin" in result.err
    assert "No such file" in result.err and cluster.requests == []


def test_case_10_a_plugin_that_hangs(k8r: Cli, serve: Serve, tmp_path: Path) -> None:
    """k8r waits for a bounded time only, and leaves no plugin running."""
    cluster = serve(user=plugin(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 600"))
    process = k8r.start("ls", prefix=patched(PLUGIN_TIMEOUT=1.0))
    result = k8r.finish(process, timeout=20)
    assert result.code == 125 and "credential plugin" in result.err, result.err
    assert cluster.requests == []
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_case_10_a_plugin_that_fails_later(k8r: Cli, serve: Serve, tmp_path: Path) -> None:
    """The plugin works once, and fails when it is asked again after a 401."""
    once = (
        f"[ -e {tmp_path}/used ] && {{ echo 'session over' >&2; exit 1; }}; touch {tmp_path}/used"
    )
    cluster = serve(
        PodScript(run=600), user=plugin(tmp_path, f"{once}\necho '{CREDENTIAL}'" % "the-token")
    )

    def expire(request: Request) -> None:
        if PHASES["log"].accepts(request):
            cluster.tokens = {"new"}

    cluster.hook(expire)
    process = k8r.start("alpine", "--", "true", prefix=patched(READ_TIMEOUT=2.0))
    result = k8r.finish(process, timeout=30)
    assert result.code == 125 and "session over" in result.err, result.err
    assert "k8r logs -f alpine" in result.err
    assert anonymous(cluster) == []


def test_a_plugin_s_words_are_shown_at_once(k8r: Cli, serve: Serve, tmp_path: Path) -> None:
    """A login that waits for somebody says so, also where stdout and stderr are pipes."""
    script = f"""
echo 'open https://example.com/device and enter ABCD-1234' >&2
until [ -e {tmp_path}/entered ]; do sleep 0.1; done
echo '{CREDENTIAL % 'the-token'}'
"""
    serve(user=plugin(tmp_path, script))
    process = k8r.start("ls")
    assert process.stderr
    assert b"ABCD-1234" in process.stderr.readline()
    (tmp_path / "entered").touch()
    assert k8r.finish(process, timeout=30).code == 0


@pytest.mark.parametrize("mode, code", [("Never", 0), ("IfAvailable", 0), ("Always", 125)])
def test_a_plugin_without_a_terminal(
    k8r: Cli, serve: Serve, tmp_path: Path, mode: str, code: int
) -> None:
    """It gets no standard input; if it needs one, that is said and it is not run."""
    script = f"cat > {tmp_path}/read; echo '{CREDENTIAL % 'the-token'}'"
    user = plugin(tmp_path, script)
    user["exec"]["interactiveMode"] = mode
    serve(user=user)
    result = k8r("ls", stdin=b"not for the plugin", timeout=30)
    assert result.code == code, result.err
    if code:
        assert "needs a terminal" in result.err and not (tmp_path / "read").exists()
    else:
        assert (tmp_path / "read").read_text() == ""


@pytest.mark.parametrize(
    "mode, typed", [("Never", ""), ("IfAvailable", "me\n"), ("Always", "me\n")]
)
def test_a_plugin_at_a_terminal(
    k8r: Cli, serve: Serve, tmp_path: Path, mode: str, typed: str
) -> None:
    """It may ask there, unless the kubeconfig says that it never does."""
    script = (
        f"echo 'user name?' >&2; head -n 1 > {tmp_path}/read; echo '{CREDENTIAL % 'the-token'}'"
    )
    user = plugin(tmp_path, script)
    user["exec"]["interactiveMode"] = mode
    serve(user=user)
    terminal = pexpect.spawn(
        str(Path(sys.executable).with_name("k8r")),
        ["ls"],
        env=k8r.env,
        cwd=str(k8r.cwd),
        timeout=30,
    )
    terminal.expect_exact("user name?")
    terminal.sendline("me")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 0 and (tmp_path / "read").read_text() == typed


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize("cluster_too", [False, True], ids=["", "cluster"])
def test_what_a_plugin_is_told(
    k8r: Cli, serve: Serve, tmp_path: Path, version: str, cluster_too: bool
) -> None:
    """The version that it is to speak, and the cluster if the kubeconfig wants that."""
    credential = (CREDENTIAL % "the-token").replace("/v1", f"/{version}")
    script = f"printenv KUBERNETES_EXEC_INFO A > {tmp_path}/told; echo '{credential}' \"$@\""
    user = plugin(tmp_path, script)
    api = f"client.authentication.k8s.io/{version}"
    user["exec"].update(apiVersion=api, provideClusterInfo=cluster_too, args=[" "])
    user["exec"]["env"] = [{"name": "A", "value": "b"}]
    serve(user=user)
    path = Path(k8r.env["KUBECONFIG"])
    content = json.loads(path.read_text())
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "me"}}
    content["clusters"][0]["cluster"]["extensions"] = [extension]
    path.write_text(json.dumps(content))
    result = k8r("ls", timeout=30)
    assert result.code == 0, result.err
    told, variable = (tmp_path / "told").read_text().splitlines()
    info = json.loads(told)
    assert (info["apiVersion"], info["kind"], variable) == (api, "ExecCredential", "b")
    assert info["spec"]["interactive"] is False
    seen = info["spec"].get("cluster", {})
    assert (seen.get("config") == {"audience": "me"}) == cluster_too
    assert (seen.get("server") == content["clusters"][0]["cluster"]["server"]) == cluster_too


@pytest.mark.parametrize("year, again", [(2001, True), (9999, False)])
def test_credentials_that_expire(
    k8r: Cli, serve: Serve, tmp_path: Path, year: int, again: bool
) -> None:
    """They are renewed before the next request, without a refusal."""
    status = f'"expirationTimestamp": "{year}-01-01T00:00:00Z", "token"'
    credential = (CREDENTIAL % "the-token").replace('"token"', status)
    cluster = serve(user=plugin(tmp_path, f"echo x >> {tmp_path}/calls; echo '{credential}'"))
    assert k8r("alpine", "--", "true", timeout=60).code == 0
    calls = (tmp_path / "calls").read_text().count("x")
    assert (calls > 1) == again and {request.status for request in cluster.requests} & {
        401
    } == set()


def test_the_hint_of_a_plugin_that_is_not_there(k8r: Cli, serve: Serve, tmp_path: Path) -> None:
    """How to install it is said in the kubeconfig; it reaches no terminal as it is."""
    user = plugin(tmp_path, "")
    user["exec"].update(command="no-such-plugin", installHint="get it:\n  make \x1b[1mplugin")
    serve(user=user)
    result = k8r("ls", timeout=30)
    assert result.code == 125 and "no-such-plugin" in result.err
    assert "get it: make \\x1b[1mplugin" in result.err


def test_a_secret_of_a_plugin_is_not_shown(k8r: Cli, serve: Serve, tmp_path: Path) -> None:
    """Not even where what it prints cannot be used."""
    for printed in (
        "leaked-secret",
        CREDENTIAL % "leaked\\nsecret",
        '{"status": {"token": ["leaked"]}}',
    ):
        serve(user=plugin(tmp_path, f"cat <<'END'\n{printed}\nEND\n"))
        result = k8r("ls", timeout=30)
        assert result.code == 125 and "leaked" not in result.err, result.err
        assert "internal" not in result.err and len(result.err.splitlines()) == 1


def test_impersonation(k8r: Cli, serve: Serve) -> None:
    """Every request is somebody else's."""
    cluster = serve(user={"token": "the-token", "as": "somebody", "as-groups": ["one"]})
    assert k8r("alpine", "--", "true").code == 0
    asked = [request.headers for request in cluster.requests]
    assert {headers.get("impersonate-user") for headers in asked} == {"somebody"}
    assert {headers.get("impersonate-group") for headers in asked} == {"one"}


KILLED = """\
import os, runpy, ssl, sys
ssl.SSLContext.load_cert_chain = lambda *args, **kwargs: os.kill(os.getpid(), 9)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_no_key_is_left_by_a_killed_k8r(k8r: Cli, tmp_path: Path) -> None:
    """A client key is in no file that has a name, not even while it is being loaded."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    data = base64.b64encode(b"a key").decode()
    user = {"client-certificate-data": data, "client-key-data": data}
    content = {
        "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }
    env = {"KUBECONFIG": write(tmp_path / "config", content), "TMPDIR": str(folder)}
    process = k8r.start("ls", env=env, prefix=[sys.executable, "-c", KILLED])
    assert k8r.finish(process, timeout=30).code == -signal.SIGKILL
    assert list(folder.iterdir()) == []


# What is not allowed, the command, and whether it must fail for it.
DENIED = [
    ("create jobs", ("./", "--", "true"), True),
    ("create configmaps", ("./", "--", "true"), True),
    ("patch jobs", ("./", "--", "true"), True),
    ("list jobs", ("./", "--", "true"), True),
    ("watch jobs", ("./", "--", "true"), True),
    ("list pods", ("./", "--", "true"), True),
    ("watch pods", ("./", "--", "true"), True),
    ("get pods/log", ("./", "--", "true"), True),
    ("list jobs", ("ls",), True),
    ("list deployments", ("ls",), True),
    ("get jobs", ("logs", "old"), True),
    ("list pods", ("logs", "old"), True),
    ("get pods/log", ("logs", "old"), True),
    ("get jobs", ("rm", "-f", "old"), True),
    ("delete jobs", ("rm", "-f", "old"), True),
]


@pytest.mark.parametrize("denied, args, fails", DENIED, ids=lambda value: str(value))
def test_what_is_not_allowed_is_named(
    k8r: Cli, cluster: FakeCluster, project: Path, denied: str, args: Sequence[str], fails: bool
) -> None:
    """The message names verb and resource, and nothing is left suspended."""
    if "old" in args:
        assert k8r("./", "-d", "--job-name", "old", "--", "true").code == 0
        cluster.wait(lambda: job(cluster)["status"].get("succeeded"))
    cluster.play(PodScript(["line"], run=1.0))
    cluster.denied = {denied}
    result = k8r(*args, timeout=30)
    verb, resource = denied.split()
    assert f"no permission to {verb} {resource} in namespace default" in result.err
    assert result.code == (125 if fails else 0) and "Traceback" not in result.err
    assert [item for item in cluster.objects("jobs") if item["spec"]["suspend"]] == []
    if verb in ("create", "patch"):
        assert gone(cluster), left(cluster)


def test_events_that_may_not_be_read_do_not_matter(k8r: Cli, cluster: FakeCluster) -> None:
    """They only explain; the run ends as it would without them."""
    cluster.denied = {"list events"}
    cluster.play(PodScript(numbered(2), unschedulable="no node", hold=3.0))
    result = k8r("alpine", "--", "true", timeout=30)
    assert (result.code, result.out) == (0, text(2)), result.err


def write(path: Path, config: Any) -> str:
    """Write a kubeconfig."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(config))
    return str(path)


def test_the_first_current_context_wins(k8r: Cli, serve: Serve, tmp_path: Path) -> None:
    """KUBECONFIG lists are merged by kubectl's rules; missing files are passed over."""
    one = serve()
    first = k8r.env["KUBECONFIG"]
    with FakeCluster() as two:
        second = two.kubeconfig(tmp_path / "second", context="two")
        k8r.env["KUBECONFIG"] = os.pathsep.join([str(tmp_path / "none"), first, second])
        assert k8r("ls").code == 0 and one.requests and not two.requests
        seen = len(one.requests)
        assert k8r("ls", "--context", "two").code == 0
        assert len(one.requests) == seen and two.requests
        k8r.env["KUBECONFIG"] = os.pathsep.join([second, first])
        before = len(two.requests)
        assert k8r("ls").code == 0 and len(two.requests) > before and len(one.requests) == seen


def test_parts_of_a_context_in_several_files(k8r: Cli, serve: Serve, tmp_path: Path) -> None:
    """Context, cluster and user may each come from another file; of equal names the first
    counts, also for the user.
    """
    cluster = serve()
    config = json.loads(Path(k8r.env["KUBECONFIG"]).read_text())
    wrong = [{"name": "fake", "user": {"token": "wrong"}}]
    parts = [
        write(tmp_path / "a", {"current-context": "fake", "contexts": config["contexts"]}),
        write(tmp_path / "b", {"clusters": config["clusters"], "users": config["users"]}),
        write(tmp_path / "c", {"users": wrong, "current-context": "nonsense"}),
    ]
    k8r.env["KUBECONFIG"] = os.pathsep.join(parts)
    assert k8r("ls").code == 0 and anonymous(cluster) == []


def test_relative_paths_are_relative_to_their_file(
    k8r: Cli, serve: Serve, tmp_path: Path, workdir: Path
) -> None:
    """A token file and a plugin are found beside the kubeconfig, not beside k8r; and
    KUBECONFIG itself may be relative to where k8r runs.
    """
    cluster = serve()
    config = json.loads(Path(k8r.env["KUBECONFIG"]).read_text())
    folder = tmp_path / "conf"
    folder.mkdir()
    (folder / "token").write_text("the-token\n")
    config["users"][0]["user"] = {"tokenFile": "token"}
    write(folder / "by-file", config)
    script = "echo '" + CREDENTIAL % "the-token" + "'"
    made = plugin(folder, script)
    made["exec"]["command"] = "./plugin"
    config["users"][0]["user"] = made
    write(folder / "by-plugin", config)
    for name in ("by-file", "by-plugin"):
        k8r.env["KUBECONFIG"] = f"../conf/{name}"
        result = k8r("ls")
        assert result.code == 0, result.err
    assert anonymous(cluster) == []


@pytest.mark.parametrize(
    "content, words",
    [
        (None, "there is no kubeconfig at"),
        ("", "is empty"),
        ("{", "cannot be read"),
        ("[]", "not a valid kubeconfig"),
        ("{}", "no current context"),
        ('{"current-context": "x"}', "no context 'x'"),
        (
            '{"current-context": "x", "contexts": [{"name": "x", "context": {"cluster": "c"}}]}',
            "names the cluster 'c'",
        ),
    ],
)
def test_kubeconfigs_that_cannot_be_used(
    k8r: Cli, tmp_path: Path, content: Any, words: str
) -> None:
    """One clear line, no traceback."""
    path = tmp_path / "broken"
    if content is not None:
        path.write_text(content)
    result = k8r("ls", env={"KUBECONFIG": str(path)})
    assert result.code in (2, 125) and words in result.err
    assert len(result.err.splitlines()) == 1 and "internal" not in result.err


def test_no_kubeconfig_at_all(k8r: Cli) -> None:
    """What to do is said."""
    result = k8r("ls")
    assert result.code == 125 and "KUBECONFIG" in result.err
