#!/usr/bin/env bash
# Starts the containers of compose.yaml and compose.try.yaml, works with them, breaks them, and says what happened.
#
#   deploy/try_containers.sh             by hand, not in CI: it takes some minutes, and the builds before it
#
# It needs Docker with compose, curl and openssl. Its containers and volumes are its own (project pcc-drill, port 8444) and
# go at the end; with PCC_DRILL_KEEP=yes they stay. PCC_DRILL_BUILD=no takes the images that are there.
# The exit code is 1 if a line of the table failed.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
export PCC_SERVER_NAME=tracking.localhost PCC_SERVER_BUCKET=pcc-drill PCC_TRY_PORT=${PCC_TRY_PORT:-8444}
export PCC_SERVER_PROXY_NETWORK=${PCC_SERVER_PROXY_NETWORK:-172.16.250.16/28} PCC_TRY_ROOT=$work/root.crt
for secret in PCC_SERVER_DB_PASSWORD MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY; do
    export "$secret=$(openssl rand -hex 24)"
done
REVISION=$(git describe --always --abbrev=40 --dirty --exclude '*' 2>/dev/null || true)
export REVISION
address=https://$PCC_SERVER_NAME:$PCC_TRY_PORT
services=(postgres bucket mlflow tls) # serve comes last, as it needs a champion
study_password=$(openssl rand -hex 24)
export PCC_SERVE_USERNAME=server PCC_SERVE_PASSWORD=$study_password

dc() { docker compose -p pcc-drill -f deploy/compose.yaml -f deploy/compose.try.yaml --profile pipeline --profile serve --profile watch "$@"; }
quiet() { "$@" >"$work/quiet" 2>&1 || { cat "$work/quiet" >&2 && return 1; }; }
pcc() { dc run --rm -T "${with[@]}" pipeline "$@"; }
with=() # options of the next `pcc`

table=() failed=0 callers=()
row() { # what was tried, what happened, and 0 if that is right
    local mark=ok
    [ "$3" = 0 ] || { mark=FAILED failed=1; }
    table+=("$mark|$1|$2")
    printf '%-6s  %s: %s\n' "$mark" "$1" "$2"
}
# Whether a text has a part; for `row`, which wants 0 for yes.
has() { [[ $1 == *"$2"* ]] && echo 0 || echo 1; }

exec 3>&1 # where a command that fails has its output elsewhere, the table is still seen
finish() {
    local code=$?
    exec >&3
    touch "$work/enough" # whoever still asks
    wait "${callers[@]}" 2>/dev/null || true
    [ ${#table[@]} = 0 ] || {
        printf '\n| tried | what happened | |\n|---|---|---|\n'
        for line in "${table[@]}"; do
            IFS='|' read -r mark what happened <<<"$line"
            printf '| %s | %s | %s |\n' "$what" "$happened" "$mark"
        done
    }
    [ "$code" = 0 ] || { echo "ended early (exit code $code); the last lines of the containers:" && dc logs --tail 15; } || true
    if [ "${PCC_DRILL_KEEP:-no}" != yes ]; then dc down --volumes --remove-orphans >/dev/null 2>&1 || true; fi
    rm -rf "$work"
    if [ "$code" = 0 ]; then exit $failed; fi
}
trap finish EXIT

# What clients do from this machine. Passwords go through files and pipes, as others see command lines.
login() { (umask 077 && printf 'user = "%s:%s"\n' "$1" "$2" >"$work/login"); }
ask() { # an address, and curl's options; curl's own checks of the certificate hold
    local path=$1
    shift
    curl --silent --show-error --max-time 150 --resolve "$PCC_SERVER_NAME:$PCC_TRY_PORT:127.0.0.1" --cacert "$work/root.crt" "$@" "$address$path"
}
status() { ask "$1" --config "$work/login" --output /dev/null --write-out '%{http_code}' 2>/dev/null || true; }
api() { ask "/api/2.0/mlflow/$1" --config "$work/login" --header 'Content-Type: application/json' --data "$2" | tr -d ' \n'; }
got() { ask "/api/2.0/mlflow/$1" --config "$work/login" | tr -d ' \n'; }
looking='/api/2.0/mlflow/experiments/search?max_results=1'
root_certificate() { dc exec -T tls cat /data/caddy/pki/authorities/local/root.crt >"$work/root.crt"; }
all_runs() { api runs/search "{\"experiment_ids\": [\"1\"], \"max_results\": 1000${1:-}}"; }
of_step() { all_runs ", \"filter\": \"tags.\`pcc.step\` = '$1'\""; }
statuses() { grep -o '"status":"[A-Z]*"' <<<"$1" | cut -d'"' -f4 | sort | uniq -c | tr -s ' \n' ' '; }

# The host kills a container's first process, as a crash would: `docker kill` is a wish that it stay away.
crash() {
    local pid
    pid=$(docker inspect --format '{{.State.Pid}}' "$1")
    docker run --rm --pid host --network none --user 0 --entrypoint sh pcc-tracking-server:3.17.2 -c "kill -9 $pid"
}
until_answers() { # of a path: the first answer, the seconds until it is a good one, and the last one
    local begun=$SECONDS first='' code
    while code=$(status "$1") && [ "$code" != 200 ] && [ $((SECONDS - begun)) -lt 180 ]; do
        first=${first:-$code}
        sleep 0.5
    done
    echo "${first:-$code} $((SECONDS - begun)) $code"
}

echo "== images"
if [ "${PCC_DRILL_BUILD:-yes}" = yes ]; then dc build "${services[@]}" pipeline prometheus; fi
for image in pcc-database:15.18 pcc-tracking-server:3.17.2 pcc-tls:2.11.7 pcc-pipeline pcc-prometheus:3.15.0; do
    size=$(($(docker image inspect --format '{{.Size}}' "$image") / 1000000))
    user=$(docker image inspect --format '{{.Config.User}}' "$image")
    row "image $image" "$size MB, runs as ${user:-root}" "$([ -n "$user" ] && echo 0 || echo 1)"
done
packages=$(docker run --rm --entrypoint python pcc-pipeline -c 'import json, sys; print(len(json.load(open(f"{sys.prefix}/sbom.cdx.json"))["components"]))')
row "bill of materials of pcc-pipeline" "$packages packages" "$([ "$packages" -gt 50 ] && echo 0 || echo 1)"

echo "== start"
touch "$work/root.crt"
begun=$SECONDS
quiet dc up --no-build --detach --wait "${services[@]}"
took=$((SECONDS - begun))
root_certificate
login admin "$MLFLOW_AUTH_ADMIN_PASSWORD"
row "up --wait" "$took s; the first request without an account: $(ask /version --output /dev/null --write-out '%{http_code}'), with: $(status /version)" \
    "$([ "$(status /version)" = 200 ] && echo 0 || echo 1)"
heads=$(ask /version --head | tr '[:upper:]' '[:lower:]')
row "HTTP/3" "$(grep -q alt-svc <<<"$heads" && echo announced || echo "not announced")" "$(grep -q '^http/2' <<<"$heads" && ! grep -q alt-svc <<<"$heads" && echo 0 || echo 1)"
row "Caddy's own /up from outside" "$(ask /up --output /dev/null --write-out '%{http_code}')" "$([ "$(ask /up --output /dev/null --write-out '%{http_code}')" = 401 ] && echo 0 || echo 1)"

held='' wrong=0
look_at() { # the rights of a service's containers, into `held` and `wrong`
    local service=$1 container is of_kernel
    for container in $(dc ps -q "$service"); do
        is=$(docker inspect --format '{{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}} {{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}' "$container")
        [[ $is =~ ^"true [ALL] [no-new-privileges:true] "[1-9][0-9]*" "[1-9][0-9]*" "[1-9] ]] || wrong=1
        # What the kernel says of the first process: its account, its rights, and whether it may get new ones.
        of_kernel=$(docker exec "$container" sh -c "grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs):' /proc/1/status | tr -s '\t\n' ' '")
        [[ $of_kernel =~ Uid:\ [1-9] && $of_kernel == *"CapEff: 0000000000000000"* && $of_kernel == *"CapBnd: 0000000000000000"* && $of_kernel == *"NoNewPrivs: 1"* ]] || wrong=1
        docker exec "$container" sh -c 'touch /etc/x 2>/dev/null || touch /srv/x 2>/dev/null' && wrong=1
        held+="${held:+, }$service $(sed -E 's/.*Uid: ([0-9]+).*/\1/' <<<"$of_kernel")"
    done
}
for service in "${services[@]}"; do look_at "$service"; done
row "rights" "accounts by number: $held; no rights, none to be had, nothing of the root can be written, limits stand" $wrong

echo "== who asks"
told=$(dc run --rm -T --entrypoint python pipeline - <<'PYTHON'
import os, socket, ssl, urllib.request
name, password = os.environ["MLFLOW_TRACKING_URI"].removeprefix("https://"), os.environ["MLFLOW_TRACKING_PASSWORD"]
import base64
head = {"Authorization": "Basic " + base64.b64encode(f"admin:{password}".encode()).decode(), "Host": name}
path = "/api/2.0/mlflow/experiments/get-by-name?experiment_name="
trust = ssl.create_default_context(cafile="/run/root.crt")
with socket.create_connection((name, 443)) as connection:
    own = connection.getsockname()[0]
for url, claimed in ((f"https://{name}{path}by-caddy", "203.0.113.8"), (f"http://mlflow:5000{path}past-caddy", "203.0.113.9")):
    try:
        urllib.request.urlopen(urllib.request.Request(url, headers={**head, "X-Forwarded-For": claimed}), context=trust if url[4] == "s" else None)
    except urllib.error.HTTPError as error:
        assert error.code == 404, error  # there is no such experiment
print(own)
PYTHON
)
sleep 1
seen=$(dc logs mlflow --no-log-prefix | grep -oE '[0-9.]+:[0-9]+ - "GET [^ ]*(by|past)-caddy' | sed -E 's/:[0-9]+ .*name=/ /' | tr '\n' ',')
row "MLflow's log names" "${seen%,}, where the client was $told at Caddy, and claimed 203.0.113.8 and .9" "$([[ $seen == *"$told by-caddy"* && $seen != *203.0.113* ]] && echo 0 || echo 1)"
quiet dc cp mlflow:/audit "$work/audit"
lines=$(cat "$work"/audit/*.jsonl | grep by-caddy || cat "$work"/audit/*.jsonl | grep "\"client\":\"$told\"" || true)
row "the audit log names" "$(grep -o '"client":"[^"]*"' <<<"$lines" | sort -u | tr '\n' ' ')" "$([[ $lines == *"\"client\":\"$told\""* && $(cat "$work"/audit/*.jsonl) != *203.0.113* ]] && echo 0 || echo 1)"

echo "== work"
begun=$SECONDS
quiet pcc run
mv "$work/quiet" "$work/trained"
trained=$(of_step train)
backend=$(grep -oE '"key":"pcc.encoder_backend","value":"[^"]*"' <<<"$trained" | cut -d'"' -f8 | head -1)
commit=$(grep -oE '"key":"pcc.git_commit","value":"[^"]*"' <<<"$trained" | cut -d'"' -f8 | head -1)
row "train on the sample in a container" "$((SECONDS - begun)) s, encoded by $backend, $(grep -oE '[0-9,]+ texts/s' "$work/trained" | head -1), commit ${commit:0:7}" "$(has "$backend" openvino)"

dc exec -T postgres psql -q -v ON_ERROR_STOP=1 <<SQL
CREATE ROLE studies LOGIN PASSWORD '$study_password';
CREATE DATABASE studies OWNER studies ENCODING 'UTF8' TEMPLATE template0;
SQL
with=(-e "PCC_SEARCH__STORAGE=postgresql+psycopg://studies@postgres/studies" -e "PGPASSWORD=$study_password" -e PCC_SEARCH__STUDY_NAME=drill)
pcc train --search-method optuna --n-iter 4 >"$work/studied" 2>&1 || cat "$work/studied"
trials=$(dc exec -T postgres psql -Atc "SELECT count(*) FROM trials WHERE state = 'COMPLETE'" studies || true)
row "a search's study in PostgreSQL" "$trials trials are there" "$([ "${trials:-0}" -ge 1 ] && echo 0 || echo 1)"

with=(-e "PCC_REGISTRY__PUBLISH__TARGET=gs://$PCC_SERVER_BUCKET/pcc-models")
refused=0
pcc promote --reason drill >"$work/refused" 2>&1 || refused=$?
pcc promote --force true --reason "the sample is old" >"$work/promoted" 2>&1 || cat "$work/promoted"
with=()
champion=$(got "registered-models/alias?name=pcc-intent-classifier&alias=champion" | grep -oE '"version":"[0-9]+"' | cut -d'"' -f4 || true)
published=$(dc exec -T bucket sh -c 'find /bucket -name "metadata.json*" -path "*pcc-models*" | wc -l')
row "promote in a container" "refused by the gates (exit code $refused), then forced: version ${champion:-none} is champion, $published published" "$([ $refused != 0 ] && [ -n "$champion" ] && [ "$published" -ge 1 ] && echo 0 || echo 1)"
scored() { # predictions of the champion without what is of the hour
    pcc score --output outputs/scored.csv >"$work/scored" 2>&1 || cat "$work/scored" >&2
    dc run --rm -T --entrypoint cut pipeline -d, -f1,2,4,5 outputs/scored.csv | sha256sum | cut -c1-16
}
scores=$(scored)
ask /api/2.0/mlflow/users/create --config "$work/login" --header 'Content-Type: application/json' --data @- >/dev/null <<<"{\"username\": \"anna\", \"password\": \"$study_password\"}"

echo "== break"
for how in stop crash; do
    trainer=$(dc run --detach pipeline train --search-method random --n-iter 400)
    until docker logs "$trainer" 2>&1 | grep -q 'INFO trial'; do sleep 0.5; done
    if [ $how = stop ]; then docker stop --time 60 "$trainer" >/dev/null; else crash "$trainer"; fi
    code=$(docker wait "$trainer")
    docker rm "$trainer" >/dev/null
    if [ $how = stop ]; then
        row "docker stop while it trains" "exit code $code, runs:$(statuses "$(of_step train)")" "$([ "$code" = 143 ] && ! grep -q RUNNING <<<"$(all_runs)" && echo 0 || echo 1)"
    fi
done
before=$(statuses "$(all_runs)")

# All in turn, while a training goes on. Clients of MLflow wait and try again; so does curl here, which asks at once.
trainer=$(dc run --detach pipeline run --search-method random --n-iter 600)
until docker logs "$trainer" 2>&1 | grep -q 'INFO trial'; do sleep 0.5; done
for service in "${services[@]}"; do
    container=$(dc ps -q "$service")
    crash "$container"
    path=$looking
    if [ "$service" = bucket ]; then path='/api/2.0/mlflow-artifacts/artifacts?path=1'; fi
    read -r first took last <<<"$(until_answers "$path")"
    row "$service is killed" "the first answer after it was ${first/000/none}, and $last after $took s; Docker started it again" "$([ "$last" = 200 ] && echo 0 || echo 1)"
done
going=$(docker inspect --format '{{.State.Status}}' "$trainer")
code=$(docker wait "$trainer")
docker logs "$trainer" >"$work/through" 2>&1
docker rm "$trainer" >/dev/null
row "the training meanwhile (${going} after the last kill)" "exit code $code, $(grep -oE '[0-9]+ complete' "$work/through" | head -1), $(grep -cE 'away|does not answer|back' "$work/through" || true) lines about an MLflow that was away" "$code"
row "the trainer is killed" "runs before the next training:$before, after it:$(statuses "$(all_runs)")" "$(grep -q RUNNING <<<"$(all_runs)" && echo 1 || echo 0)"

echo "== lose and restore"
snapshot() { # runs and versions, as the server tells them, in one order: it tells tags in any
    { all_runs && echo && got registered-models/search && echo && got model-versions/search; } |
        docker run --rm --interactive --network none --entrypoint python pcc-pipeline -c '
import json, sys
def ordered(part):
    if isinstance(part, dict):
        return {name: ordered(part[name]) for name in sorted(part)}
    return sorted(map(ordered, part), key=json.dumps) if isinstance(part, list) else part
for line in sys.stdin:
    print(json.dumps(ordered(json.loads(line)), indent=1))'
}
dc exec -T postgres backup.sh /backups/drill
dc exec -T postgres tar -C /backups -c drill >"$work/databases.tar"
dc exec -T bucket tar -C /bucket -c . >"$work/bucket.tar"
snapshot >"$work/before"
quiet dc cp mlflow:/audit "$work/audit-before"
row "backup" "databases $(($(stat -c %s "$work/databases.tar") / 1000)) kB, bucket $(($(stat -c %s "$work/bucket.tar") / 1000)) kB" 0
quiet dc down --volumes --remove-orphans
left=$(docker volume ls -q --filter label=com.docker.compose.project=pcc-drill | wc -l)
row "everything is lost" "$left volumes are left" "$left"
begun=$SECONDS
quiet dc up --no-build --detach --wait postgres bucket
dc exec -T postgres tar -C /backups -x <"$work/databases.tar"
dc exec -T postgres restore.sh /backups/drill
dc exec -T bucket tar -C /bucket -x <"$work/bucket.tar"
quiet dc restart bucket
quiet dc up --no-build --detach --wait "${services[@]}"
root_certificate
took=$((SECONDS - begun))
snapshot >"$work/after"
diff "$work/before" "$work/after" | head -20 || true
row "restore" "$took s; runs and versions are $(cmp -s "$work/before" "$work/after" && echo the same || echo different), $(grep -c '"run_id"' "$work/after") lines name a run" "$(cmp -s "$work/before" "$work/after" && echo 0 || echo 1)"
again=$(scored)
row "the champion's answers after it" "$scores before, $again after" "$([ "$scores" = "$again" ] && echo 0 || echo 1)"
login anna "$study_password"
row "anna's account after it" "$(status /version)" "$([ "$(status /version)" = 200 ] && echo 0 || echo 1)"

verified=0
chmod -R go+rX "$work/audit-before" && chmod go+x "$work"
with=(-v "$work/audit-before:/audit-before:ro")
pcc audit verify --offline --folder /audit-before >"$work/verified" 2>&1 || verified=$?
with=()
row "the audit log that was copied off" "$(head -1 "$work/verified")" $verified

echo "== serve"
login admin "$MLFLOW_AUTH_ADMIN_PASSWORD"
ask /api/2.0/mlflow/users/create --config "$work/login" --header 'Content-Type: application/json' --data @- >/dev/null <<<"{\"username\": \"$PCC_SERVE_USERNAME\", \"password\": \"$PCC_SERVE_PASSWORD\"}"
begun=$SECONDS
quiet dc up --no-build --detach --wait serve
took=$((SECONDS - begun))
mapfile -t replicas < <(dc ps -q serve)
held='' wrong=0
look_at serve
row "two model servers start" "$took s until both are ready; accounts by number: $held; rights and limits as above" "$([ $wrong = 0 ] && [ ${#replicas[@]} = 2 ] && echo 0 || echo 1)"

(umask 077 && printf 'user = "anna:%s"\n' "$study_password" >"$work/caller")
(umask 077 && printf 'user = "anna:not%s"\n' "$study_password" >"$work/stranger")
classify() { # with curl's options: the status, and the seconds it took
    ask /v1/classify --header 'Content-Type: application/json' --data '{"text": "please erase everything you have on me"}' --output /dev/null --write-out '%{http_code} %{time_total}\n' "$@" 2>/dev/null || true
}
on_duty() { # what a container answers with, and nothing while it is not ready
    docker exec "$1" python -c 'import json, urllib.request; print(json.load(urllib.request.urlopen("http://127.0.0.1:8000/readyz"))["champion"])' 2>/dev/null || true
}
both() { # wait until both answer with a version other than the one named, and say which
    local begun=$SECONDS one two
    while one=$(on_duty "${replicas[0]}") two=$(on_duty "${replicas[1]}"); do
        if [ -n "$one" ] && [ "$one" = "$two" ] && [ "$one" != "${1:-}" ]; then break; fi
        if [ $((SECONDS - begun)) -ge 120 ]; then break; fi
    done
    echo "${one:-none} ${two:-none} $((SECONDS - begun))"
}
known=$(classify --config "$work/caller") unknown=$(classify) wrong_password=$(classify --config "$work/stranger")
answer=$(ask /v1/classify --config "$work/caller" --header 'Content-Type: application/json' --data '{"text": "please erase everything you have on me"}')
inside=$(for path in /readyz /metrics /healthz; do ask $path --output /dev/null --write-out '%{http_code} '; done)
row "/v1/classify by TLS" "with an account ${known% *}, $(grep -o '"predicted_label": *"[^"]*"' <<<"$answer"); without ${unknown% *}, with a wrong password ${wrong_password% *}; /readyz, /metrics and /healthz from outside: $inside" \
    "$([ "${known% *} ${unknown% *} ${wrong_password% *} $inside" = "200 401 401 401 401 200 " ] || [ "${known% *} ${unknown% *} ${wrong_password% *} $inside" = "200 401 401 401 401 401 " ] && echo 0 || echo 1)"

# Four callers, each of whom asks again as soon as it is answered, while things happen.
: >"$work/stream"
for _ in 1 2 3 4; do
    until [ -e "$work/enough" ]; do classify --config "$work/caller" >>"$work/stream"; done &
    callers+=($!)
done
mark=0
happened() { # what, and what became of the requests since the last time
    local lines failures slowest
    lines=$(tail -n "+$((mark + 1))" "$work/stream")
    mark=$((mark + $(wc -l <<<"$lines")))
    failures=$(grep -vc '^200 ' <<<"$lines" || true)
    slowest=$(cut -d' ' -f2 <<<"$lines" | sort -g | tail -1)
    row "$1" "$2$(wc -l <<<"$lines") requests, $failures failed, the slowest took $slowest s" "$([ "$failures" = 0 ] && echo "${3:-0}" || echo 1)"
}
sleep 10
happened "a stream of requests" ""
crash "${replicas[0]}"
sleep 1
read -r one two took <<<"$(both)"
happened "a model server is killed" "ready again after $((took + 1)) s; " "$([ "$one" = "$two" ] && [ "$one" != none ] && echo 0 || echo 1)"
begun=$SECONDS
docker stop --time 45 "${replicas[1]}" >/dev/null
took=$((SECONDS - begun))
docker start "${replicas[1]}" >/dev/null
read -r one two again <<<"$(both)"
happened "the other is stopped and started" "ended after $took s, ready again after $again s; " "$([ "$one" = "$two" ] && [ "$one" != none ] && echo 0 || echo 1)"
other=1
if [ "$champion" = 1 ]; then other=2; fi
api registered-models/alias "{\"name\": \"pcc-intent-classifier\", \"alias\": \"champion\", \"version\": \"$other\"}" >/dev/null
before=$one
read -r one two took <<<"$(both "$before")"
happened "another version becomes champion" "both answer with $one in place of $before after $took s; " "$([ "$one" = "$two" ] && [ "$one" != "$before" ] && echo 0 || echo 1)"
quiet dc kill mlflow
sleep 75 # longer than what MLflow said of an account holds
away=$(docker exec "${replicas[0]}" python -c 'import urllib.request; print(urllib.request.urlopen("http://127.0.0.1:8000/readyz").read().decode())' || true)
happened "MLflow is killed and stays away for 75 s" "" "$(has "$away" '"registry": "away"')"
crash "${replicas[0]}"
sleep 20 # it has its version again, and knows no account that it might answer
alone=$(on_duty "${replicas[0]}")
happened "a model server is killed while MLflow is away" "${alone:-not} ready, the other answers; " "$([ -z "$alone" ] && echo 0 || echo 1)"
begun=$SECONDS
quiet dc up --no-build --detach --wait mlflow
read -r one two took <<<"$(both)"
happened "MLflow is back" "both ready after $((SECONDS - begun)) s; " "$([ "$one" = "$two" ] && [ "$one" != none ] && echo 0 || echo 1)"
touch "$work/enough"
wait "${callers[@]}"

echo "== watch"
begun=$SECONDS
quiet dc up --no-build --no-deps --detach --wait prometheus
held='' wrong=0
look_at prometheus
row "Prometheus starts" "ready after $((SECONDS - begun)) s; account by number: $held; rights and limits as above" $wrong
# What Prometheus answers, without blanks; and the seconds until its answer has a part.
watched() { dc exec -T prometheus wget -q -O - "http://127.0.0.1:9090/api/v1/$1" | tr -d ' \n'; }
until_watched() {
    local begun=$SECONDS
    until [[ $(watched "$1") == *"$2"* ]] || [ $((SECONDS - begun)) -ge 240 ]; do sleep 2; done
    echo $((SECONDS - begun))
}
counted='query?query=count(up{job=%22pcc-serve%22}==1)'
took=$(until_watched "$counted" '"2"]')
targets=$(watched targets | grep -o '"health":"[a-z]*"' | sort | uniq -c | tr -s ' \n' ' ')
row "what it watches" "after $took s$targets" "$([ "$targets" = ' 2 "health":"up" ' ] && echo 0 || echo 1)"
rules=$(grep -c 'alert: ' deploy/prometheus/rules.yml)
until_watched 'rules' '"lastEvaluation":"20' >/dev/null
evaluated=$(watched rules | grep -o '"health":"ok"' | wc -l)
row "its rules" "$evaluated of $rules are evaluated" "$([ "$evaluated" = "$rules" ] && echo 0 || echo 1)"
for _ in $(seq 20); do classify --config "$work/caller" >/dev/null; done
sleep 35 # two looks more, as rates need
queries=0
docker run --rm -i --network pcc-drill_watch -v "$PWD/deploy/grafana/dashboards/serving.json:/serving.json:ro" --entrypoint python pcc-pipeline - >"$work/queries" 2>&1 <<'PYTHON' || queries=$?
import json, urllib.parse, urllib.request
answers = {}
for panel in json.load(open("/serving.json"))["panels"]:
    for target in panel["targets"]:
        query = urllib.parse.urlencode({"query": target["expr"].replace("$__rate_interval", "1m")})
        with urllib.request.urlopen(f"http://prometheus:9090/api/v1/query?{query}", timeout=20) as answer:
            answers.setdefault(panel["title"], []).append(bool(json.load(answer)["data"]["result"]))
empty = [title for title, given in answers.items() if not any(given)]
print(f"all {sum(map(len, answers.values()))} are taken; without a value: {', '.join(empty) or 'none'}")
PYTHON
row "the queries of the dashboard" "$(tail -1 "$work/queries")" $queries
called='query?query=count(ALERTS{alertname=%22PccServeOneIsGone%22,alertstate=%22firing%22})'
docker stop --time 45 "${replicas[1]}" >/dev/null
took=$(until_watched "$called" '"1"]')
alert=$(has "$(watched "$called")" '"1"]')
docker start "${replicas[1]}" >/dev/null
again=$(until_watched "$called" '"result":[]')
row "a model server is stopped" "PccServeOneIsGone stands after $took s, and is over $again s after the start" "$([ "$alert" = 0 ] && has "$(watched "$called")" '"result":[]' || echo 1)"
