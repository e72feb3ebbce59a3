# Sourced by tests/run and tests/check: how to find Pythons and uv.
# shellcheck shell=sh

# Behind a proxy that signs for others, only the system's certificates will do.
export UV_SYSTEM_CERTS=true

say() { printf '== %s\n' "$*" >&2; }
die() { printf 'tests/run: %s\n' "$*" >&2; exit 1; }

cache=${K8R_TEST_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/k8r-tests}
mkdir -p "$cache"

# The interpreter named $1 ("3.9"), if this machine has it: on PATH, or pyenv's.
interpreter() {
    for candidate in "python$1" "$(pyenv_root)/versions/$1."*/bin/python; do
        if "$candidate" -c '' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}

pyenv_root() {
    if found=$(command -v pyenv); then
        dirname "$(dirname "$(readlink -f "$found")")"
    else
        echo "${PYENV_ROOT:-${HOME:-/root}/.pyenv}"
    fi
}

# uv, from PATH or from PyPI into an environment of its own.
find_uv() {
    if command -v uv >/dev/null; then
        uv=uv
        return
    fi
    uv=$cache/uv/bin/uv
    [ -x "$uv" ] && return
    say "installing uv"
    for version in 3.13 3.12 3.11 3.10 3.9 3.8; do
        python=$(interpreter "$version")
        [ -n "$python" ] && break
    done
    [ -n "$python" ] || die "no Python from 3.8 to 3.13 found; install python3 and python3-venv"
    "$python" -m venv "$cache/uv" || die "python3 -m venv failed; install python3-venv"
    "$cache/uv/bin/pip" install -q uv
}
