#!/bin/bash
# Answers the few calls of `docker` that cases make, by Boatyard's own verbs. An environment's
# labels are those in `spec.devcontainer.idLabels`; its id is its uid.
set -euo pipefail

# ids [-a] [LABEL...]: environments with all the labels, one uid a line.
ids() {
    boatyard get environments -o json | python3 -c '
import json, sys
every, wanted = sys.argv[1] == "all", [label.partition("=") for label in sys.argv[2:]]
for item in json.load(sys.stdin)["items"]:
    labels = item["spec"].get("devcontainer", {}).get("idLabels", {})
    runs = item.get("status", {}).get("phase") == "Running"
    if all(name in labels and (not sign or labels[name] == value) for name, sign, value in wanted):
        if runs or every:
            print(item["metadata"]["uid"])
' "$@"
}

each() {
    verb=$1
    shift
    for id in "$@"; do
        devcontainer "$verb" --container-id "$id" >/dev/null 2>&1
        echo "$id"
    done
}

verb=${1:-}
shift || true
case $verb in
ps)
    which=running labels=()
    while [ $# -gt 0 ]; do
        case $1 in
        -q | --quiet | --no-trunc) ;;
        -a | --all | -aq | -qa) which=all ;;
        --filter | -f)
            shift
            labels+=("${1#label=}")
            ;;
        --filter=*) labels+=("${1#--filter=label=}") ;;
        *)
            echo "docker ps $1: not mapped to a verb of boatyard" >&2
            exit 125
            ;;
        esac
        shift
    done
    ids "$which" "${labels[@]}"
    ;;
stop | rm)
    targets=()
    while [ $# -gt 0 ]; do
        case $1 in
        -t | --time) shift ;;
        -*) ;;
        *) targets+=("$1") ;;
        esac
        shift
    done
    [ "$verb" = stop ] || verb=down
    each "$verb" "${targets[@]}"
    ;;
*)
    echo "docker $verb $*: not mapped to a verb of boatyard" >&2
    exit 125
    ;;
esac
