#!/bin/sh
# The Python environment of `make`, installed as far as its target needs: venv.sh to-run|to-answer|to-serve|to-develop FOLDER [PYTHON]
#
# An environment that is broken, half made, moved here from another folder or of another Python is made anew. Nothing but
# its folder is ever emptied for that. What stands and is as new as the list of dependencies is left alone, in 50 ms.
set -eu

OLDEST=11 NEWEST=14 # of Python 3

purpose=$1 folder=$2 named=${3:-}
case $purpose in
to-run) extras=openvino size="0.6 GB to download, 2.3 GB on disk" ;;
to-answer) extras=openvino,serve size="0.6 GB to download, 2.3 GB on disk" ;;
to-serve) extras=openvino,local-server size="0.6 GB to download, 2.3 GB on disk" ;;
to-develop) extras=openvino,dev size="0.7 GB to download, 2.7 GB on disk" ;;
*) exit 2 ;;
esac

fail() { # what is wrong, what to do
    printf 'error: %s\n  %s\n' "$1" "$2" >&2
    exit 1
}

# What a Python is: its version and, where it cannot make an environment, " without venv". Nothing if it does not run.
described() {
    "$1" -c '
import sys
try:
    import ensurepip, venv
    lack = ""
except ImportError:
    lack = " without venv"
print("%d.%d%s" % (*sys.version_info[:2], lack))' 2>/dev/null || true
}

in_range() {
    case $1 in
    3.*) [ "${1#3.}" -ge $OLDEST ] && [ "${1#3.}" -le $NEWEST ] ;;
    *) false ;;
    esac
}

# Sets `python` to the named Python, or to the first on PATH that will do.
choose() {
    # Not the one of an activated environment, which may be the broken one.
    PATH=$(printf '%s' "$PATH" | tr ':' '\n' | grep -vxF "$PWD/${folder#"$PWD/"}/bin" | paste -s -d : -)
    if [ -n "$named" ]; then set -- "$named"; else set -- python3.11 python3.12 python3.13 python3.14 python3; fi
    seen='' package=''
    for python in "$@"; do
        is=$(described "$python")
        if [ -z "$is" ]; then
            [ -z "$named" ] || seen="$named does not run"
        elif ! in_range "${is% without venv}"; then
            seen="$seen${seen:+; }$python is Python $is"
        elif [ "$is" = "${is% without venv}" ]; then
            return
        else
            seen="$seen${seen:+; }$python is Python $is"
            package=${package:-python${is% without venv}-venv}
        fi
    done
    fail "making $folder needs Python 3.$OLDEST to 3.$NEWEST with venv; ${seen:-none is on PATH}" \
        "${package:+on Debian and Ubuntu: apt-get install $package; or }name another: make PYTHON=/path/to/python3 …"
}

# Whether the environment runs, has pip, has scripts that start it and not one elsewhere, and is of a Python that will do.
stands() {
    "$folder/bin/python" -c '
import os, re, sys
import pip
with open(os.path.join(sys.prefix, "bin", "pip"), "rb") as script:
    home = re.search(rb"(/[^\"\n]*)/bin/python", script.read(2000))
sys.exit(not (home and os.path.samefile(home[1], sys.prefix)))' 2>/dev/null || return 1
    is=$(described "$folder/bin/python")
    in_range "${is% without venv}" || return 1
    [ -z "$named" ] || [ "${is% without venv}" = "$(described "$named" | sed 's/ .*//')" ]
}

# Whether all that it was installed from is older than it. The stamp `installed` is of all.
is_new() {
    for stamp in "$folder/installed" "$folder/installed-$purpose"; do
        [ ! -e "$stamp" ] || [ -n "$(find pyproject.toml constraints.txt -newer "$stamp")" ] || return 0
    done
    return 1
}

if stands; then
    ! is_new || exit 0
else
    if [ -e "$folder/pyvenv.cfg" ] || [ "${folder##*/}" = .venv ]; then
        [ ! -e "$folder" ] || echo "$folder is broken, half made or of another Python: making it anew"
    elif [ -n "$(ls -A "$folder" 2>/dev/null)" ]; then
        fail "$folder is no Python environment" "name another folder: make VENV=.venv …"
    fi
    choose
    echo "making $folder with $python (Python $is)"
    "$python" -m venv --clear "$folder"
fi

install() {
    "$folder/bin/python" -m pip install --disable-pip-version-check -c constraints.txt -e ".[$extras]" &&
        touch "$folder/$([ $purpose = to-develop ] && echo installed || echo "installed-$purpose")"
}

if ! ls "$folder"/installed* >/dev/null 2>&1; then
    echo "installing packages into $folder: about $size, several minutes"
    [ "$(uname -s)" != Linux ] || echo "gigabytes more if this torch brings CUDA: the README says how to avoid it"
    install
else
    echo "installing what is new into $folder"
    install | { grep -v '^Requirement already satisfied' || true; }
    is_new || exit 1
fi
