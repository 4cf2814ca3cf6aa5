#!/usr/bin/env bash
# up.sh PORT: a real OpenHIM core 4.0.5 on loopback, with its database in memory. PORT is its API (https),
# PORT+1 its router (http); five more after them are taken too. Runs until it is killed. Log in as
# root@openhim.org with openhim-password. `up.sh --prepare` only fetches and compiles it.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$here/../prepare.sh"
port=${1:?usage: up.sh PORT}
prepare openhim Database
core=$PART/core
(
  flock 9
  if [ ! -e "$core/ready" ]; then
    rm -rf "$core" && mkdir -p "$core"
    echo '{"name": "openhim", "private": true}' >"$core/package.json"
    (cd "$core" && npm install --ignore-scripts --no-audit --no-fund --silent openhim-core@4.0.5)
    # It would fetch a list of authorities at every start.
    echo "module.exports = require('./ssl-root-cas')" >"$core/node_modules/ssl-root-cas/ssl-root-cas-latest.js"
    touch "$core/ready"
  fi
) 9>"$PART.core.lock"
[ "$port" = --prepare ] && exit 0

run=$(mktemp -d)
children=()
trap 'kill "${children[@]}" 2>/dev/null; rm -rf "$run"' EXIT
trap 'exit 0' TERM INT
java -Xmx256m -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp "$PART/classes:$PART/lib/*" Database $((port + 6)) &
children+=($!)
until (exec 3<>"/dev/tcp/127.0.0.1/$((port + 6))") 2>/dev/null; do sleep 0.1; done
database=mongodb://127.0.0.1:$((port + 6))/openhim
cat >"$run/conf.json" <<J
{ "bindAddress": "127.0.0.1",
  "mongo": {"url": "$database", "atnaUrl": "$database"},
  "logger": {"level": "warn", "logToDB": false, "capDBLogs": false},
  "router": {"httpPort": $((port + 1)), "httpsPort": $((port + 2)), "timeout": 60000},
  "api": {"httpsPort": $port, "authWindowSeconds": 10},
  "rerun": {"host": "127.0.0.1", "httpPort": $((port + 3)), "processor": {"enabled": true, "pollPeriodMillis": 500}},
  "tcpAdapter": {"httpReceiver": {"host": "127.0.0.1", "httpPort": $((port + 4))}},
  "polling": {"enabled": true, "host": "127.0.0.1", "pollingPort": $((port + 5))},
  "alerts": {"enableAlerts": false}, "reports": {"enableReports": false}, "bodyCull": {"enabled": false},
  "email": {"nodemailer": {"service": "", "host": "127.0.0.1", "port": 1}} }
J
cd "$core"
NODE_OPTIONS="" node --unhandled-rejections=warn -r "$here/preload.cjs" node_modules/openhim-core/lib/server.js --conf="$run/conf.json" &
children+=($!)
wait -n
