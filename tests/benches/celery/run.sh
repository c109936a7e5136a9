#!/bin/sh
# Measures Celery by itself: run.sh [TASKS [ROUNDS]]. `chimera bench tasks` starts the same three processes and takes
# turns with them; this is for looking at the baseline alone. Needs python3 and redis-server.
set -eu
tasks=${1:-2000} rounds=${2:-3}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
venv=${CHIMERA_BENCH_VENV:-$work/venv}
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
port=$("$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export CHIMERA_BENCH_REDIS="redis://127.0.0.1:$port/0"
cd "$here"
redis-server --bind 127.0.0.1 --port "$port" --save '' --appendonly no --dir "$work" >"$work/redis.log" &
redis=$!
"$venv/bin/python" -m celery -A app worker --loglevel ERROR --without-gossip --without-mingle --without-heartbeat \
    >"$work/worker.log" 2>&1 &
worker=$!
trap 'kill $worker; wait $worker || true; kill $redis; wait $redis || true; rm -rf "$work"' EXIT
{ echo 100; i=0; while [ $i -lt "$rounds" ]; do echo "$tasks"; i=$((i + 1)); done; } | "$venv/bin/python" drive.py
