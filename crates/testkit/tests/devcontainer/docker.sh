#!/bin/bash
# Answers the few calls of `docker` that cases make, by Boatyard's own verbs. An environment's
# labels are those in `spec.devcontainer.idLabels`; its id is its uid. Of a Compose project's label
# the containers are the services in `status.services`, told by name.
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

# services running|all PROJECT: services of the project's environments, one name a line.
services() {
    boatyard get environments -o json | python3 -c '
import json, sys
every, project = sys.argv[1] == "all", sys.argv[2]
for item in json.load(sys.stdin)["items"]:
    if item["metadata"].get("annotations", {}).get("boatyard.dev/compose-project") == project:
        for service in item.get("status", {}).get("services", []):
            if service["state"] == "Running" or every and service["state"] == "Exited":
                print(service["name"])
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
    which=running labels=() format=
    while [ $# -gt 0 ]; do
        case $1 in
        -q | --quiet | --no-trunc) ;;
        -a | --all | -aq | -qa) which=all ;;
        --filter | -f)
            shift
            labels+=("${1#label=}")
            ;;
        --filter=*) labels+=("${1#--filter=label=}") ;;
        --format)
            shift
            format=$1
            ;;
        *)
            echo "docker ps $1: not mapped to a verb of boatyard" >&2
            exit 125
            ;;
        esac
        shift
    done
    case "$format ${labels[*]}" in
    '{{index .Labels "com.docker.compose.service"}} com.docker.compose.project='*)
        services "$which" "${labels[0]#*=}"
        ;;
    ' '*) ids "$which" "${labels[@]}" ;;
    *)
        echo "docker ps --format $format: not mapped to a verb of boatyard" >&2
        exit 125
        ;;
    esac
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
