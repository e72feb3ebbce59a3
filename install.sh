#!/bin/sh
# Installs k8r for one user, without root; brings it up to date; removes it.
# `sh install.sh --help` tells how. Nothing runs before the last line, so that a
# download cut short does nothing.

# zsh is to read this file as sh would.
[ -z "${ZSH_VERSION:-}" ] || emulate sh
set -eu

self=$0
newline='
'
# The first version of k8r that need not know the layout of its first ones.
# shellcheck disable=SC2034 # a test compares it with the version of k8r
old_layout_until=0.3
# What a first run and a later removal have to find.
home='' launcher='' bin='' checkout='' url='' branch='' current='' unproven='' locked=''

usage() {
    say 'usage: sh install.sh                     install this checkout, or bring it up to date
       sh install.sh --update [BRANCH]   the newest of where k8r came from
       sh install.sh --uninstall         remove k8r and all that this script made
       curl -fsSL URL/install.sh | K8R_REPO=URL sh

environment:
  K8R_REPO            the git repository, where there is no checkout beside this script
  K8R_BRANCH          its branch or tag (default: the one that it has checked out)
  K8R_HOME            where k8r lives (default: ~/.local/share/k8r)
  K8R_BIN             where the command goes (default: ~/.local/bin)
  K8R_NO_MODIFY_PATH  if 1, no rc file of a shell is changed'
}

# What comes before the host in a URL may be a token.
hide() { LC_ALL=C sed 's,://[^[:space:]]*@,://***@,g'; }
say() { printf '%s\n' "$*" | hide; }
warn() { printf 'install.sh: %s\n' "$*" | hide >&2; }
die() {
    warn "$*"
    exit 1
}

# ---- Where things are

# Prints the path $1, from / on; a URL stays.
absolute() {
    case $1 in
    /* | *:*) printf '%s\n' "$1" ;;
    *) printf '%s\n' "$PWD/$1" ;;
    esac
}

# Sets home, launcher and bin, and checkout if this script lies in one.
locate() {
    [ -n "${HOME:-}" ] || die "HOME is not set"
    home=$(absolute "${K8R_HOME:-$HOME/.local/share/k8r}")
    # Through a pipe, $0 is the shell, and what lies in this directory is nobody's wish.
    case $self in
    install.sh | */install.sh) [ ! -f "$self" ] || locate_self ;;
    esac
    launcher=$(remembered launcher)
    if [ -n "${K8R_BIN:-}" ] || [ -z "$launcher" ]; then
        launcher=$(absolute "${K8R_BIN:-$HOME/.local/bin}")/k8r
    fi
    bin=$(dirname "$launcher")
    case $home$launcher in
    *"$newline"*) die "the directories of k8r cannot have a line break in their names" ;;
    esac
    current=$(readlink "$home/current" 2>/dev/null) || current=
    current=${current##*/}
}

locate_self() {
    here=$(cd "$(dirname "$self")" && pwd -P)
    place=${here%/versions/*}
    if [ "$place" != "$here" ] && [ -f "$place/source" ]; then
        # An installed version knows its place, whatever the environment says.
        [ "$(cd "$home" 2>/dev/null && pwd -P)" = "$place" ] || home=$place
    elif [ -f "$here/k8r.py" ] && [ -f "$here/pyproject.toml" ]; then
        checkout=$here
    fi
}

# Keeps stdin as the file $1 in home, for this user alone: a URL may hold a token.
remember() { (umask 077 && cat >"$home/$1.new") && mv -f "$home/$1.new" "$home/$1"; }

# What the file $1 in home says, line $2 of it.
remembered() { sed -n "${2:-1}p" "$home/$1" 2>/dev/null || :; }

# Makes the directory $1, and remembers each that was not there before.
make_dir() {
    made='' dir=$1
    while [ ! -d "$dir" ]; do
        made=$made$dir$newline
        dir=$(dirname "$dir")
    done
    mkdir -p "$1" || die "cannot make the directory $1"
    printf %s "$made" >>"$home/made" || die "cannot write in $home"
}

# ---- What is needed

# Ends with $1, which is missing, and what to type to get it; $2 is its package in Debian.
missing() {
    die "$1; install it (Debian, Ubuntu: apt install $2; Fedora: dnf install ${2%-venv};" \
        "macOS: xcode-select --install)"
}

# macOS has a git and a python3 that only offer to install one. In a git hook the
# environment leads git to the hook's repository.
need_git() {
    for name in $(env -i PATH="$PATH" git rev-parse --local-env-vars 2>/dev/null) GIT_DEFAULT_HASH; do
        unset "$name"
    done
    git --version >/dev/null 2>&1 || missing "git is missing" git
}

# A git that runs no program because a repository's configuration says so.
git() { command git -c core.hooksPath=/dev/null -c core.fsmonitor=false "$@"; }

# Sets uv: the user's, where it is new enough, or one in home.
find_uv() {
    # The user's network may sign for others; then only the system's certificates
    # will do, which pip and git use as well. uv would bring its own.
    export UV_SYSTEM_CERTS="${UV_SYSTEM_CERTS:-true}"
    export UV_PYTHON_DOWNLOADS=never
    # An activated environment is not what this is for.
    unset VIRTUAL_ENV
    uv=uv
    understands uv && return
    uv=$home/uv/bin/uv
    # Its cache goes when it does.
    export UV_CACHE_DIR="${UV_CACHE_DIR:-$home/uv/cache}"
    understands "$uv" || install_uv
}

sync='sync -q --locked --no-default-groups --compile-bytecode'

# Whether $1 is a uv that knows these options.
understands() {
    # shellcheck disable=SC2086 # words
    "$1" $sync --help >/dev/null 2>&1
}

install_uv() {
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 8))' 2>/dev/null ||
        missing "python3 is missing or older than 3.8" python3-venv
    say "there is no uv here: installing it into $home/uv"
    rm -rf "$home/uv"
    { python3 -m venv "$home/uv" && "$home/uv/bin/python" -m pip --version; } >/dev/null 2>&1 ||
        missing "python3 cannot make environments (venv, pip)" python3-venv
    "$home/uv/bin/python" -m pip install -q --no-cache-dir --disable-pip-version-check uv ||
        die "pip could not install uv"
    understands "$uv" || die "this machine's uv is too old: $("$uv" --version 2>&1)"
}

# ---- Where it comes from

# Sets url and branch, the place of updates.
choose_source() {
    url=$(remembered source 1) branch=$(remembered source 2)
    if [ -n "$checkout" ]; then
        url=$checkout branch=
        [ ! -e "$checkout/.git" ] || choose_origin
    fi
    if [ -n "${K8R_REPO:-}" ]; then
        url=$(absolute "$K8R_REPO") branch=
    fi
    branch=${K8R_BRANCH:-$branch}
    [ -n "$url" ] || die "set K8R_REPO to the URL of k8r's git repository, or run this from a checkout"
}

# The checkout's origin is the place of updates, where it has one.
choose_origin() {
    need_git
    if origin=$(git -C "$checkout" config --get remote.origin.url); then
        case $origin in
        *:* | /*) url=$origin ;;
        *) url=$(cd "$checkout" && cd "$origin" && pwd -P) || url=$origin ;;
        esac
        branch=$(git -C "$checkout" rev-parse --abbrev-ref '@{upstream}' 2>/dev/null |
            sed -n 's,^origin/,,p')
    fi
    [ -z "$(git -C "$checkout" status --porcelain -uno)" ] ||
        warn "note: the uncommitted changes in $checkout are not installed"
}

# Puts what is at $1, in its branch $2 if there is one, into staged, and sets id, its name.
fetch() {
    make_dir "$home/versions"
    staged=$home/versions/.new
    rm -rf "$staged"
    if [ -f "$1/k8r.py" ] && [ ! -e "$1/.git" ]; then
        [ -z "$2" ] || die "$1 is not a git repository, hence has no branch $2"
        fetch_files "$1"
    else
        fetch_commit "$1" "$2"
    fi
    for file in k8r.py pyproject.toml uv.lock install.sh; do
        [ -f "$staged/$file" ] || die "$1${2:+, branch $2,} cannot be installed: it has no $file"
    done
}

fetch_files() {
    mkdir "$staged"
    for file in k8r.py pyproject.toml uv.lock install.sh README.md LICENSE CHANGELOG.md; do
        [ ! -f "$1/$file" ] || cp "$1/$file" "$staged/$file"
    done
    # The same files have the same name, so that nothing is done twice.
    id=files-$(cd "$staged" && cat -- * | cksum | cut -d ' ' -f 1)
}

fetch_commit() {
    need_git
    # git warns of a depth where it copies from a directory.
    depth=--depth=1
    [ "${1#/}" = "$1" ] || depth=
    told=$(git -c advice.detachedHead=false clone -q --template= $depth \
        ${2:+--branch "$2"} -- "$1" "$staged" 2>&1) || die "git cannot clone $1${2:+, branch $2}: $told"
    commit=$(git -C "$staged" rev-parse -q --verify HEAD) || die "$1 has no commit"
    id=$(printf %.12s "$commit")
    rm -rf "$staged/.git"
}

# ---- A version

# Whether the version in $1 runs; shown is what it said.
starts() { shown=$("$1/.venv/bin/k8r" --version 2>&1 </dev/null); }

# Makes what is at $1, in its branch $2, the current version, and sets name, what to call it.
# A current one that no longer starts is made again beside itself.
bring_in() {
    fetch "$1" "$2"
    previous=$current
    if [ "${previous%.1}" != "$id" ] || ! starts "$home/current"; then
        [ "$previous" != "$id" ] || id=$id.1
        switch
    fi
    name="${shown%% (*} ($current)"
}

# Makes the version id the current one, once it has been tried.
switch() {
    version=$home/versions/$id
    if [ ! -e "$version/.tried" ] || ! starts "$version"; then
        unproven=$version
        build
        unproven=
    fi
    current=$id
    link "versions/$id" "$home/current"
    # The version before may be running.
    for dir in "$home"/versions/*; do
        case ${dir##*/} in
        "$current" | "$previous") ;;
        *) rm -rf "$dir" ;;
        esac
    done
}

build() {
    say "making k8r $id in $home"
    find_uv
    python=$("$uv" python find -q --system --no-project "${UV_PYTHON:->=3.8}") ||
        missing "there is no Python from 3.8 on" python3-venv
    rm -rf "$version"
    mv "$staged" "$version"
    # shellcheck disable=SC2086 # words
    (cd "$version" && UV_PROJECT_ENVIRONMENT=.venv "$uv" $sync --python "$python") ||
        die "uv could not install $id${current:+; $current stays}"
    starts "$version" || die "$id does not start${current:+, $current stays}: ${shown##*"$newline"}"
    : >"$version/.tried"
}

# Makes $2 a link to $1 in one step, whatever was there.
# Neither POSIX' mv nor ln can replace a link to a directory; Python can.
link() {
    rm -f "$2.new" && ln -s "$1" "$2.new" && "$home/versions/$current/.venv/bin/python" -I -c \
        'import os, sys; os.replace(sys.argv[1], sys.argv[2])' "$2.new" "$2"
}

# ---- The command

# Whether $1 is the link to this k8r.
is_our_link() { [ "$(readlink "$1" 2>/dev/null || :)" = "$home/current/.venv/bin/k8r" ]; }

refuse_what_is_not_ours() {
    case $(readlink "$launcher" 2>/dev/null || :) in
    # Another place of k8r may have had the command.
    */current/.venv/bin/k8r) ;;
    *)
        [ ! -e "$launcher" ] && [ ! -L "$launcher" ] ||
            { [ "$launcher" = "$HOME/.local/bin/k8r" ] && has_old_folder; } ||
            die "$launcher is there already, and not made by this; remove it or set K8R_BIN"
        ;;
    esac
    [ ! -e "$home/made" ] || return 0
    for entry in "$home"/* "$home"/.[!.]*; do
        case ${entry##*/} in
        old-layout-* | '*' | '.[!.]*') ;;
        *) die "$home is there already, and not made by this; set K8R_HOME" ;;
        esac
    done
}

# A link costs nothing at a start, as a script would; and it goes by `current`, so an
# update need not touch it. What runs meanwhile stays in its version's directory,
# which the first line of .venv/bin/k8r names.
make_launcher() {
    make_dir "$bin"
    is_our_link "$launcher" || link "$home/current/.venv/bin/k8r" "$launcher" ||
        die "cannot make $launcher"
    # K8R_BIN may have been another one the last time.
    before=$(remembered launcher)
    [ "$before" = "$launcher" ] || ! is_our_link "$before" || rm -f "$before"
    printf '%s\n' "$launcher" | remember launcher
}

# ---- rc files

# The rc files in which the user's shell looks for PATH, a line each; with `all` those that
# might concern k8r.
rc_files() {
    zsh=${ZDOTDIR:-$HOME}
    case ${1:-${SHELL:-}} in
    all)
        for name in .bashrc .bash_aliases .bash_profile .bash_login .profile \
            .zshenv .zprofile .zshrc; do
            printf '%s\n' "$HOME/$name" "$zsh/$name"
        done
        # ZDOTDIR may have been another one at the installation.
        remembered rc '1,$'
        ;;
    */zsh) printf '%s\n' "$zsh/.zshrc" ;;
    */bash)
        printf '%s\n' "$HOME/.bashrc"
        # A login shell reads the first of these, and no .bashrc unless that does.
        for login in "$HOME/.bash_profile" "$HOME/.bash_login" "$HOME/.profile"; do
            [ ! -e "$login" ] || break
        done
        grep -q bashrc "$login" 2>/dev/null || printf '%s\n' "$login"
        ;;
    *) printf '%s\n' "$HOME/.profile" ;;
    esac
}

# Does a task to the rc files that stdin names. What one is to hold is written beside it,
# compared and moved, so that nothing is lost, whatever fails. The line tells what there was
# before it, so that its removal gives back the very bytes.
# shellcheck disable=SC2016 # this is Python
editor='
import os, re, shutil, sys

task, line = map(os.fsencode, sys.argv[1:])
OWN, CUT = b", in a file of its own", b", after a line without an end"
END = rb"[ \t]*\r?(?:\n|\Z)"
LINE = rb"^" + re.escape(line) + b"(?:" + OWN + b"|" + CUT + b")?" + END
LINE = rb"\n" + re.escape(line + CUT) + rb"\n\Z|" + LINE
BLOCK = rb"# >>> k8r >>>\n(?:(?!# [<>]{3} k8r).*\n){5}# <<< k8r <<<\n"
BLOCK = rb"\n" + BLOCK + rb"\Z|^\n?" + BLOCK
COMPLETION = rb"^eval \"\$\(k8r env\)\"" + END
FUNCTION = rb"^[ \t]*(?:function[ \t]+k8r\b|k8r[ \t]*\(\)|alias[ \t]+k8r=)|\.local/bin/k8r/"
# What each task removes, what it leaves to the user, and why.
NEVER = rb"(?!)"
REMOVED, LEFT, WHY = {
    b"add": ([BLOCK], NEVER, b""),
    b"migrate": ([BLOCK], FUNCTION, b"has a k8r that comes before the command; remove it"),
    b"remove": ([BLOCK, LINE], rb"^# >>> k8r >>>", b"has a block of k8r that was changed"),
    b"remove-all": (
        [BLOCK, LINE, COMPLETION],
        rb"^# >>> k8r >>>|^[^#\n]*\bk8r env\b",
        b"needs k8r, which is gone; remove it",
    ),
}[task]

def note(text):
    os.write(2, b"install.sh: note: " + text + b"\n")

def read(path):
    if os.path.isfile(path):
        with open(path, "rb") as stream:
            return stream.read()
    if os.path.lexists(path) and task == b"add":
        raise OSError(0, "it is not a file")
    return None

def compute(old):
    """What the file is to hold; None: it is not to be there."""
    new = re.sub(b"(?m)" + b"|".join(REMOVED), b"", old or b"")
    own = old is None or not new and (OWN in old or old.startswith(b"# >>>"))
    if task == b"add" or task == b"migrate" and new != (old or b""):
        if not re.search(b"(?m)" + LINE, new):
            how = OWN if own else CUT if new[-1:] not in b"\n" else b""
            return new + b"\n" * (how == CUT) + line + how + b"\n"
    return None if own and not new else new

def replace(path, old, new):
    beside = b"%s.k8r-%d" % (path, os.getpid())
    try:
        with open(beside, "xb") as stream:
            if old is not None:
                status = os.stat(path)
                os.chown(beside, status.st_uid, status.st_gid)
                shutil.copystat(path, beside)
            stream.write(new)
            stream.flush()
            os.fsync(stream.fileno())
        if read(beside) != new or read(path) != old:
            raise OSError(0, "it changed meanwhile")
        os.replace(beside, path)
    finally:
        if os.path.lexists(beside):
            os.remove(beside)

def edit(name):
    path = os.path.realpath(name)
    old = read(path)
    new = compute(old)
    if new != old:
        if old is not None and not os.access(path, os.W_OK):
            raise OSError(0, "it is read-only")
        os.remove(path) if new is None else replace(path, old, new)
        os.write(1, b"changed " + name + b"\n")
    left = re.search(b"(?m)" + LEFT, new or b"")
    if left:
        note(b"%s, line %d, %s" % (name, new.count(b"\n", 0, left.start()) + 1, WHY))

failed = 0
for name in dict.fromkeys(sys.stdin.buffer.read().rstrip().split(b"\n")):
    try:
        edit(name)
    except OSError as error:
        failed = 1
        note(b"cannot write %s (%s)" % (name, error.strerror.encode()))
sys.exit(failed)
'

# Does $1, one of the editor's tasks. The line for an rc file does nothing once the env file
# is gone.
edit() {
    [ -z "${K8R_NO_MODIFY_PATH:-}" ] || return 0
    word=$(quote "$home/env")
    # An rc file may be that of several machines.
    [ "$home" != "$HOME/.local/share/k8r" ] || word="\"\$HOME/.local/share/k8r/env\""
    for python in "$home/current/.venv/bin/python" "$home/uv/bin/python" python3; do
        ! "$python" -c '' 2>/dev/null </dev/null || break
    done
    "$python" -I -c "$editor" "$1" "[ ! -r $word ] || . $word # k8r"
}

# $1 as a word of shell text.
quote() { printf "'%s'" "$(printf %s "$1" | LC_ALL=C sed "s/'/'\\\\''/g")"; }

# Makes the env file, and the line from a block of old. It may be read twice, by a login
# file and the .bashrc that this reads.
make_env() {
    word=$(quote "$bin")
    printf '%s\n' "# From k8r's install.sh: a line in the shell's rc file reads this." \
        "case \":\$PATH:\" in" "*:$word:*) ;;" "*) export PATH=$word:\"\$PATH\" ;;" "esac" |
        remember env
    rc_files all | edit migrate || :
}

# Has new shells read the env file, and tells what this one needs.
add_to_path() {
    case ":$PATH:" in
    *:"$bin":*) return ;;
    esac
    { remembered rc '1,$' && rc_files; } | sort -u | remember rc
    if [ -z "${K8R_NO_MODIFY_PATH:-}" ] && rc_files | edit add; then
        how='open a new terminal, or type:'
    else
        how='put this into an rc file of your shell:'
    fi
    say "to have it on PATH, $how . $(quote "$home/env")"
    case ${SHELL:-} in
    */bash | */zsh | */sh | */dash | */ksh | '') ;;
    *) warn "note: ${SHELL##*/} may not read $HOME/.profile; put $bin on its PATH" ;;
    esac
}

# ---- The layout of the first versions, moved away until version $old_layout_until

# A folder, which is a checkout, where the command is now.
has_old_folder() { [ -d "$HOME/.local/bin/k8r" ] && [ -f "$HOME/.local/bin/k8r/k8r.py" ]; }

move_old_folder() {
    has_old_folder || return 0
    place=$home/old-layout-$(date +%Y%m%d%H%M%S)
    mv "$HOME/.local/bin/k8r" "$place"
    say "moved the old $HOME/.local/bin/k8r to $place"
    # A checkout that is the place of updates is that in its new place.
    [ "$url" != "$(cd "$HOME" && pwd -P)/.local/bin/k8r" ] || url=$place
}

# ---- Installing, updating, removing

# One at a time. A lock is a link to nothing but the number of its process, since a link
# is made in one step; one without such a process is nobody's.
lock() {
    trap clean_up EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    for attempt in 1 2; do
        ln -s "$$" "$home/lock" 2>/dev/null && locked=yes && return
        owner=$({ readlink "$home/lock" || cat "$home/lock"; } 2>/dev/null |
            sed -n '1s/^\([1-9][0-9]\{0,8\}\)$/\1/p')
        ! is_running "$owner" ||
            die "process $owner is installing k8r in $home; if not, remove $home/lock"
        [ "$attempt" = 2 ] || rm -rf "$home/lock"
    done
    die "cannot make $home/lock"
}

# Another user's process cannot be sent a signal.
is_running() {
    [ -n "$1" ] && { kill -0 "$1" || [ -d "/proc/$1" ] || ps -p "$1"; } >/dev/null 2>&1
}

# Removes what is half done, and all of it where no version was there before.
clean_up() {
    code=$?
    trap - EXIT
    [ -n "$locked" ] || exit "$code"
    rm -rf "$home/versions/.new" "${unproven:-$home/versions/.new}" "$home/lock"
    [ -L "$home/current" ] && [ -e "$home/launcher" ] || remove_home
    exit "$code"
}

install() {
    choose_source
    refuse_what_is_not_ours
    make_dir "$home"
    lock
    if [ -n "$checkout" ]; then
        bring_in "$checkout" ''
    else
        bring_in "$url" "$branch"
    fi
    move_old_folder
    printf '%s\n' "$url" "$branch" | remember source
    make_launcher
    make_env
    if [ "$current" = "$previous" ]; then
        say "$name was installed already: $launcher"
    else
        say "installed $name: $launcher"
    fi
    add_to_path
}

update() {
    url=$(remembered source 1) branch=${branch:-$(remembered source 2)}
    [ -n "$url" ] || die "there is no k8r in $home to update"
    lock
    bring_in "$url" "$branch"
    printf '%s\n' "$url" "$branch" | remember source
    make_env
    if [ "$current" = "$previous" ]; then
        say "$name is up to date"
    else
        say "updated to $name from ${previous:-nothing}"
    fi
}

uninstall() {
    kept=0 task=remove
    if [ -e "$home/made" ]; then
        lock
        ! is_our_link "$launcher" || rm -f "$launcher"
        # Without any k8r, completion would be an error in each new shell.
        command -v k8r >/dev/null || task=remove-all
    fi
    rc_files all | edit "$task" || kept=1
    if [ -n "$locked" ]; then
        remove_home
        say "removed $home"
    else
        say "there is no k8r in $home"
    fi
    for old in "$home"/old-layout-*; do
        [ ! -e "$old" ] || say "kept $old, which may hold changes of yours"
    done
    return "$kept"
}

# Removes the command and what was made in home, and the directories that were made.
remove_home() {
    made=$(cat "$home/made" 2>/dev/null) || return 0
    ! is_our_link "$launcher" || rm -f "$launcher"
    # clean_up goes on without the first, should this be interrupted.
    rm -f "$home/launcher" "$home/current"
    rm -rf "$home/versions" "$home/uv"
    # The rest is short, and cut off it could not be taken up again.
    trap '' HUP INT TERM
    rm -f "$home/source" "$home/env" "$home/rc" "$home"/*.new "$home/lock" "$home/made"
    printf '%s\n' "$made" | sort -r | while IFS= read -r dir; do
        [ -z "$dir" ] || rmdir "$dir" 2>/dev/null || :
    done
}

main() {
    unset CDPATH
    task=install
    case ${1-} in
    -h | --help)
        usage
        return
        ;;
    --update | --uninstall)
        task=${1#--}
        shift
        ;;
    esac
    wrong=${1-}
    case $task:$wrong in
    update:-*) ;;
    update:*) branch=$wrong wrong=${2-} ;;
    esac
    if [ -n "$wrong" ]; then
        warn "there is no option or argument $wrong here (--help tells more)"
        exit 2
    fi
    locate
    "$task"
}

main "$@"
