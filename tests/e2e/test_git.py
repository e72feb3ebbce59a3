"""`k8r GIT_URL`: what is cloned, with which credentials, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, List, Sequence

import pytest
import yaml

from gitserver import DEFAULT_USER, LOGIN, USER_ONLY, GitServer
from leaks import nowhere
from common import refused
from support import Kubectl, nothing_left

if TYPE_CHECKING:
    from tests.conftest import Cli, Result

SHOW_ALL = ["--", "sh", "-c", "env; cat version .git/config .git/FETCH_HEAD; ls -A /k8r 2>&1 || :"]
"""A command that prints all that a clone leaves where the command can see it."""

RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"


def failed(ended: Result, *words: str) -> None:
    """Assert that it failed, and said why."""
    assert ended.code not in (0, 2), ended.err
    assert "Traceback" not in ended.err
    for word in words:
        assert word.lower() in ended.err.lower()


@pytest.mark.clean
def test_a_repository(run: Cli, kubectl: Kubectl, git_server: GitServer) -> None:
    """The default branch, with its submodule at its commit, in an image that has no git."""
    script = "pwd; cat version inner/inside; ./tool.sh 'a b'; command -v git || echo no git"
    ended = run(git_server.url(), "--", "sh", "-c", script)
    assert ended.code == 0, ended.err
    assert ended.text.splitlines() == ["/workspace", "three", "pinned", "tool a b", "no git"]
    [job] = kubectl.items("jobs")
    assert job["metadata"]["name"] == "project"
    assert job["metadata"]["labels"]["k8r-source-type"] == "github"

    again = run(git_server.url(), "--", "cat", "version")
    assert (again.code, again.out) == (0, b"three\n"), again.err
    assert sorted(kubectl.names("jobs")) == ["project", "project-1"]
    assert run("rm", "project", "project-1").code == 0


@pytest.mark.case(29)
@pytest.mark.parametrize(
    "ref, version",
    [
        ("dev", "dev"),
        ("feature/slash", "slash"),
        ("v1", "one"),
        ("v2", "two"),
        ("refs/heads/dev", "dev"),
        ("{v1}", "one"),
        ("{v2:.7}", "two"),
    ],
    ids=["branch", "slash", "tag", "annotated", "full-name", "commit", "short-commit"],
)
def test_refs(run: Cli, git_server: GitServer, ref: str, version: str) -> None:
    """--ref takes a branch, a tag, a commit or the start of one."""
    wanted = ref.format(**git_server.ids)
    ended = run(git_server.url(), "--ref", wanted, "--", "cat", "version")
    assert (ended.code, ended.text) == (0, version + "\n"), ended.err


@pytest.mark.parametrize("ref, hint", [("nope", "--ref"), ("devv", "dev?")])
def test_an_unknown_ref(quiet_run: Cli, git_server: GitServer, ref: str, hint: str) -> None:
    """A ref that the server does not have is refused, with the one that was meant."""
    refused(quiet_run(git_server.url(), "--ref", ref, "--", "true"), f"'{ref}'", hint)


@pytest.mark.case(29)
@pytest.mark.case(16)
def test_an_unknown_commit(run: Cli, git_server: GitServer) -> None:
    """Only a clone can tell that there is no such commit; its words are shown."""
    failed(run(git_server.url(), "--ref", "deadbeef", "--", "true"), "clone", "deadbeef")


@pytest.mark.parametrize("depth", [1, 2])
def test_depth(run: Cli, git_server: GitServer, depth: int) -> None:
    """One commit, or as many as asked for; git works in the clone."""
    options = ["--depth", str(depth)] if depth > 1 else []
    image = ["--base-image", "alpine/git:latest"]
    ended = run(git_server.url(), *options, *image, "--", "git", "rev-list", "--count", "HEAD")
    assert (ended.code, ended.text) == (0, f"{depth}\n"), ended.err


def test_a_startup_script(run: Cli, git_server: GitServer) -> None:
    """k8s-startup.sh runs before the command, or alone."""
    url = git_server.url()
    ended = run(url, "--ref", "startup", "--", "sh", "-c", "ls prepared; cat version")
    assert ended.code == 0, ended.err
    assert ended.text.splitlines() == ["prepared by the script", "prepared", "two"]
    alone = run(url, "--ref", "startup")
    assert (alone.code, alone.text) == (0, "prepared by the script\n"), alone.err


def test_a_startup_script_that_fails(run: Cli, git_server: GitServer) -> None:
    """Its exit code is the run's, it is named, and the command does not run."""
    ended = run(git_server.url(), "--ref", "broken", "--", "echo", "never printed")
    assert ended.code == 3
    assert "about to fail" in ended.text
    assert "k8s-startup.sh failed" in ended.text + ended.err
    assert "never printed" not in ended.text


def test_nothing_to_run(run: Cli, git_server: GitServer) -> None:
    """Neither a command nor a startup script: said so."""
    ended = run(git_server.url())
    assert ended.code in (2, 125)
    said = ended.text + ended.err
    assert "no command" in said and "k8s-startup.sh" in said


# Credentials


@pytest.mark.case(29)
def test_a_token_from_a_k8r_secret(run: Cli, kubectl: Kubectl, git_server: GitServer) -> None:
    """--git-secret names one that `k8r secret` has made; its token is nowhere else."""
    made = run("secret", "git-token", "-", stdin=git_server.token.encode())
    assert made.code == 0, made.err
    url = git_server.url(DEFAULT_USER)
    ended = run(url, "--git-secret", "git-token", *SHOW_ALL)
    assert ended.code == 0, ended.err
    assert "three\n" in ended.text
    nowhere(kubectl, git_server.token, made.err, ended.text, ended.err)


def test_a_basic_auth_secret(run: Cli, kubectl: Kubectl, git_server: GitServer) -> None:
    """--git-secret takes a Secret of Kubernetes' own type, too."""
    values = ["--from-literal=username=alice", f"--from-literal=password={git_server.token}"]
    kind = "--type=kubernetes.io/basic-auth"
    kubectl("create", "secret", "generic", "login", kind, *values)
    ended = run(git_server.url(LOGIN), "--git-secret", "login", *SHOW_ALL)
    assert ended.code == 0, ended.err
    assert "three\n" in ended.text
    nowhere(kubectl, git_server.token, ended.text, ended.err)


@pytest.mark.case(29)
@pytest.mark.clean
@pytest.mark.parametrize(
    "port, login", [(LOGIN, "alice:{}"), (USER_ONLY, "{}")], ids=["user:token", "token"]
)
def test_a_token_in_the_url(
    run: Cli, kubectl: Kubectl, git_server: GitServer, port: int, login: str
) -> None:
    """It works, submodule included, and is only in a Secret, which goes with the Job."""
    url = git_server.url(port, login.format(git_server.token.replace("/", "%2F")))
    shown = run(url, "--show-yaml", *SHOW_ALL)
    assert shown.code == 0, shown.err
    kinds = [item["kind"] for item in yaml.safe_load_all(shown.out)]
    assert sorted(kinds) == ["Job", "Secret"]

    ended = run(url, "-v", *SHOW_ALL)
    assert ended.code == 0, ended.err
    assert "three\n" in ended.text and "git-" not in ended.text
    nowhere(kubectl, git_server.token, shown.text, shown.err, ended.text, ended.err)

    [job] = kubectl.items("jobs")
    made = [item for item in kubectl.items("secrets") if item["metadata"].get("ownerReferences")]
    assert [item["metadata"]["ownerReferences"][0]["uid"] for item in made] == [
        job["metadata"]["uid"]
    ]
    assert run("rm", "project").code == 0


def test_a_token_in_the_url_of_a_deployment(
    run: Cli, kubectl: Kubectl, git_server: GitServer
) -> None:
    """The same for a Deployment, which owns its Secret."""
    url = git_server.url(LOGIN, f"alice:{git_server.token}".replace("/", "%2F"))
    script = "trap 'exit 0' TERM; cat version .git/config; env; while :; do sleep 0.2; done"
    ended = run(url, "--as-deployment", "-d", "--", "sh", "-c", script)
    assert (ended.code, ended.text) == (0, "project\n"), ended.err
    shown = run("logs", "project")
    assert "three\n" in shown.text
    nowhere(kubectl, git_server.token, ended.err, shown.text, shown.err)
    [item] = kubectl.items("secrets")
    [owner] = item["metadata"]["ownerReferences"]
    assert owner["kind"] == "Deployment"
    assert run("rm", "-f", "project").code == 0
    nothing_left(kubectl, 60)


@pytest.mark.case(29)
@pytest.mark.parametrize(
    "url",
    [
        "ssh://git:{}@git.example.com/org/x.git",
        "git://git:{}@git.example.com/org/x.git",
        "https://git:a@{}@git.example.com/org/x.git",
        "HTTPS://git:{}@git.example.com/org/x.git",
        "https://git:{}@git.example.com/org/x y.git",
    ],
    ids=["ssh", "git", "two-ats", "upper-case", "no-url"],
)
def test_a_token_in_an_odd_url(k8r: Cli, url: str) -> None:
    """Wherever a password may stand in a URL, it is taken out, or the URL is refused."""
    ended = k8r(url.format("hunter2-hunter2"), "--show-yaml", "--", "true")
    assert ended.code in (0, 2), ended.err
    assert "hunter2-hunter2" not in ended.text + ended.err


def test_wrong_credentials(quiet_run: Cli, git_server: GitServer) -> None:
    """None, a wrong token, a secret that does not exist: refused before anything is made."""
    refused(quiet_run(git_server.url(LOGIN), "--", "true"), "private", "--git-secret")
    wrong = quiet_run(git_server.url(LOGIN, "alice:hunter2hunter2"), "--", "true")
    assert "hunter2" not in refused(wrong, "credentials")
    absent = quiet_run(git_server.url(LOGIN), "--git-secret", "absent", "--", "true")
    refused(absent, "'absent'", "k8r secret")


def test_a_wrong_token_in_a_secret(run: Cli, kubectl: Kubectl, git_server: GitServer) -> None:
    """git's refusal is shown; nothing waits for somebody to type a password."""
    assert run("secret", "git-token", "hunter2hunter2").code == 0
    ended = run(git_server.url(LOGIN), "--git-secret", "git-token", "--", "true")
    failed(ended, "clone", "authentication failed")
    nowhere(kubectl, "hunter2hunter2", ended.err)


def run_by_ssh(run: Cli, git_server: GitServer, folder: Path, *options: str) -> Result:
    """Make a secret of a directory, then clone by SSH with it."""
    made = run("secret", "deploy-key", str(folder))
    assert made.code == 0, made.err
    command = ["--", "sh", "-c", "cat version inner/inside; ls -A /k8r 2>&1 || :; env"]
    return run(git_server.ssh_url(), "--git-secret", "deploy-key", *options, *command)


def test_ssh(run: Cli, kubectl: Kubectl, git_server: GitServer, tmp_path: Path) -> None:
    """With a key, and the host's in known_hosts."""
    folder = git_server.write_key(tmp_path / "key", git_server.known_hosts)
    ended = run_by_ssh(run, git_server, folder)
    assert ended.code == 0, ended.err
    assert ended.text.startswith("three\npinned\n")
    nowhere(kubectl, git_server.key.splitlines()[2], ended.text, ended.err)


@pytest.mark.case(29)
@pytest.mark.parametrize("known", ["", "wrong"])
def test_ssh_to_an_unknown_host(
    run: Cli, git_server: GitServer, tmp_path: Path, known: str
) -> None:
    """A host whose key is not known, or another, is not talked to."""
    line = None
    if known:
        line = re.sub(r"(AAAAC3NzaC1lZDI1NTE5AAAAI).{8}", r"\1AAAAAAAA", git_server.known_hosts)
        assert line != git_server.known_hosts
    folder = git_server.write_key(tmp_path / "key", line)
    ended = run_by_ssh(run, git_server, folder)
    failed(ended, "host key", "verification failed")
    assert "three" not in ended.text


def test_ssh_to_any_host(run: Cli, git_server: GitServer, tmp_path: Path) -> None:
    """--git-insecure-host-key takes any host's word."""
    folder = git_server.write_key(tmp_path / "key")
    ended = run_by_ssh(run, git_server, folder, "--git-insecure-host-key")
    assert ended.code == 0, ended.err
    assert ended.text.startswith("three\n")


def test_ssh_with_a_wrong_key(run: Cli, git_server: GitServer, tmp_path: Path) -> None:
    """The server's refusal is shown."""
    folder = git_server.write_key(tmp_path / "key", git_server.known_hosts)
    (folder / "id_ed25519").unlink()
    (folder / "token").write_text("no key at all")
    failed(run_by_ssh(run, git_server, folder), "permission denied")


@pytest.mark.parametrize("transport", ["http", "ssh"])
def test_in_a_restricted_namespace(
    run: Cli, kubectl: Kubectl, git_server: GitServer, tmp_path: Path, transport: str
) -> None:
    """--restricted clones and runs as nobody."""
    kubectl("label", "namespace", kubectl.namespace, RESTRICTED)
    options = ["--restricted", "--", "sh", "-c", "cat version; id -u; touch new && ls new"]
    source = [git_server.url()]
    if transport == "ssh":
        folder = git_server.write_key(tmp_path / "key", git_server.known_hosts)
        assert run("secret", "deploy-key", str(folder)).code == 0
        source = [git_server.ssh_url(), "--git-secret", "deploy-key"]
    ended = run(*source, *options)
    assert ended.code == 0, ended.err
    assert ended.text.splitlines() == ["three", "65534", "new"]


@pytest.mark.parametrize("by", ["url", "secret", "local"])
def test_a_submodule_of_another_host(
    run: Cli, kubectl: Kubectl, git_server: GitServer, by: str
) -> None:
    """A repository cannot have the token sent to a host that it names itself."""
    options: List[str] = ["--local"] if by == "local" else []
    login = f"alice:{git_server.token}".replace("/", "%2F")
    if by == "secret":
        values = ["--from-literal=username=alice", f"--from-literal=password={git_server.token}"]
        kubectl("create", "secret", "generic", "login", *values)
        login, options = "", ["--git-secret", "login"]
    url = git_server.url(LOGIN, login, "elsewhere.git")
    ended = run(url, *options, "--", "cat", "inner/inside")
    failed(ended, "could not read username")
    assert "pinned" not in ended.text
    assert git_server.token not in ended.text + ended.err


@pytest.mark.parametrize("where", [[], ["--local"]], ids=["cluster", "local"])
def test_a_repository_of_sha256(run: Cli, git_server: GitServer, where: List[str]) -> None:
    """It is cloned in its own format."""
    ended = run(git_server.url(repository="sha256.git"), *where, "--", "cat", "version")
    assert (ended.code, ended.text) == (0, "sha256\n"), ended.err


def test_pointers_of_git_lfs(run: Cli, git_server: GitServer) -> None:
    """Where the image that clones has no git lfs, the run says which files are not there."""
    ended = run(git_server.url(repository="pointers.git"), "--num", "2", "--", "true")
    assert ended.code == 0, ended.err
    assert ended.err.count("lacks git lfs") == 1
    assert "model.bin" in ended.err and ended.text == ""


def test_a_branch_and_a_tag(
    run: Cli, kubectl: Kubectl, git_server: GitServer, tmp_path: Path
) -> None:
    """One name for both is asked about, by HTTP before anything is made; whole names work."""
    url = git_server.url(repository="names.git")
    refused(run(url, "--ref", "rel", "--", "true"), "refs/heads/rel", "refs/tags/rel")
    assert kubectl.leftovers() == []
    for ref, text in (
        ("refs/heads/rel", "branch"),
        ("refs/tags/rel", "tag"),
        ("pull/7/head", "branch"),
    ):
        ended = run(url, "--ref", ref, "--", "cat", "version")
        assert (ended.code, ended.text) == (0, f"{text}\n"), ended.err
    folder = git_server.write_key(tmp_path / "key", git_server.known_hosts)
    assert run("secret", "deploy-key", str(folder)).code == 0
    by_ssh = git_server.ssh_url().replace("project.git", "names.git")
    ended = run(by_ssh, "--git-secret", "deploy-key", "--ref", "rel", "--", "true")
    failed(ended, "clone", "--ref refs/heads/rel or --ref refs/tags/rel")


# Wrong addresses


def test_an_empty_repository(run: Cli, git_server: GitServer, kubectl: Kubectl) -> None:
    """It is refused here, and said where only the clone can see it."""
    url = git_server.url(repository="empty.git")
    refused(run(url, "--", "true"), "is empty")
    assert kubectl.leftovers() == []
    failed(run(url, "--local", "--", "true"), "the repository is empty")


def test_a_missing_repository(quiet_run: Cli, git_server: GitServer) -> None:
    """A server without it: refused here."""
    url = git_server.url(repository="absent.git")
    refused(quiet_run(url, "--", "true"), "no repository", url)


def test_a_server_out_of_reach_from_here(run: Cli, git_server: GitServer) -> None:
    """What this machine cannot see the cluster may: a warning, and it runs."""
    blind = {"http_proxy": "http://127.0.0.1:1", "no_proxy": "127.0.0.1,localhost"}
    url = git_server.url()
    ended = run(url, "--", "cat", "version", env=blind)
    assert (ended.code, ended.text) == (0, "three\n"), ended.err
    assert f"{url} cannot be checked from here" in ended.err


def test_a_server_out_of_reach(run: Cli, git_server: GitServer) -> None:
    """Nobody listens: warned of here, and git's words from there."""
    ended = run(git_server.url(1), "--", "true")
    failed(ended, "cannot be checked from here", "clone", "failed to connect")


@pytest.mark.case(29)
@pytest.mark.parametrize(
    "args",
    [
        ("{url}", "--ref=-dangerous"),
        ("{url}", "--ref=--upload-pack=touch /tmp/danger"),
        ("{url}", "--ref", "a..b"),
        ("{url}", "--ref", ""),
        ("{url}", "--depth", "0"),
        ("--upload-pack=touch /tmp/danger",),
        ("-dangerous://git.example.com/x.git",),
        ("https://git.example.com/x y.git",),
        ("ftp://git.example.com/x.git",),
        ("file:///srv/git/project.git",),
    ],
)
def test_dangerous_words(quiet_run: Cli, git_server: GitServer, args: Sequence[str]) -> None:
    """What git or ssh could take for an option, and what is no git URL, is refused here."""
    words = [word.format(url=git_server.url()) for word in args]
    refused(quiet_run(*words, "--", "true"))


@pytest.mark.case(29)
@pytest.mark.parametrize(
    "url",
    [
        "ssh://-oProxyCommand=touch%20danger/x.git",
        "ssh://git@-oProxyCommand=danger/x.git",
        "git@-oProxyCommand=danger:x.git",
        "git@-dangerous:x.git",
    ],
)
def test_dangerous_hosts(run: Cli, kubectl: Kubectl, url: str) -> None:
    """A host that ssh could take for an option is refused here, not left to git."""
    refused(run(url, "--grace", "3", "--", "true"))
    assert kubectl.leftovers() == []


@pytest.mark.parametrize(
    "url, name",
    [
        ("git@git.example.com:org/My_Tool.git", "my-tool"),
        ("ssh://git@git.example.com:2222/org/tool", "tool"),
        ("https://git.example.com/org/tool.git/", "tool"),
        ("https://x:y@git.example.com/org/tool.git", "tool"),
        ("git://git.example.com/tool", "tool"),
        ("git@git.example.com:tool.git", "tool"),
    ],
)
def test_names(k8r: Cli, url: str, name: str) -> None:
    """The repository's name is the Job's; this needs no cluster."""
    shown = k8r(url, "--show-yaml", "--", "true")
    assert shown.code == 0, shown.err
    documents: List[object] = list(yaml.safe_load_all(shown.out))
    job = json.loads(json.dumps(documents[-1]))
    assert job["kind"] == "Job" and job["metadata"]["name"] == name
