#!/bin/sh
# Makes another server the primary before this one stops: the preStop hook of a Redis pod. A server that is no primary
# has nothing to hand over. Exit codes: 0 another server is primary, 1 none could be made so (writes go on here).
#
# A bare SENTINEL FAILOVER loses what the old primary takes until it hears of it, up to 12 s later (measured: 300 to
# 1,300 messages each time). So writes are held first, replicas catch up, and only then the roles change. The pause
# outlasts the hook, so that nothing is written here any more.
#
# Reads: REDIS_HOST REDIS_PORT REDIS_USER REDIS_PASSWORD_FILE of this server; SENTINELS, as "host:port host:port", and
# SENTINEL_USER SENTINEL_PASSWORD_FILE (user `hand-over`, here and there); REDIS_CLI_OPTIONS for TLS ("--tls --cacert
# FILE"); SENTINEL_MASTER, PAUSE_MILLISECONDS, WAIT_SECONDS. terminationGracePeriodSeconds must exceed WAIT_SECONDS by
# what Redis needs to save.
set -eu
host=${REDIS_HOST:-127.0.0.1} port=${REDIS_PORT:-6379} master=${SENTINEL_MASTER:-mymaster}
seconds=${WAIT_SECONDS:-20}
# Ten looks of at most 2.1 s before the loop, and its last round, which may begin just before its end.
pause=${PAUSE_MILLISECONDS:-$(((seconds + 40) * 1000))}

ask() { # ask HOST PORT USER PASSWORD_FILE COMMAND…
  at=$1 on=$2 user=$3 file=$4
  shift 4
  REDISCLI_AUTH=
  [ -z "$file" ] || REDISCLI_AUTH=$(cat "$file")
  export REDISCLI_AUTH
  # shellcheck disable=SC2086  # several options
  timeout 2 redis-cli -h "$at" -p "$on" ${user:+--user "$user"} ${REDIS_CLI_OPTIONS:-} "$@" 2>/dev/null || true
}
server() { ask "$host" "$port" "${REDIS_USER:-}" "${REDIS_PASSWORD_FILE:-}" "$@"; }
sentinel() { # The first answer of a Sentinel.
  for one in $SENTINELS; do
    answer=$(ask "${one%:*}" "${one##*:}" "${SENTINEL_USER:-}" "${SENTINEL_PASSWORD_FILE:-}" "$@")
    [ -z "$answer" ] || { printf '%s\n' "$answer"; return; }
  done
}
role() { server ROLE | head -n 1; }
caught_up() { # Whether a replica has all that was written.
  server INFO replication | tr -d '\r' | awk -F '[:,=]' '
    /^slave[0-9]+:/ { for (i = 1; i < NF; i++) if ($i == "offset" && $(i + 1) > most) most = $(i + 1) }
    /^master_repl_offset:/ { written = $2 }
    END { exit !(most != "" && most >= written) }'
}

[ "$(role)" = master ] || { echo "this server is no primary: nothing to hand over"; exit 0; }
before=$(sentinel SENTINEL GET-MASTER-ADDR-BY-NAME "$master")
[ "$(server CLIENT PAUSE "$pause" WRITE)" = OK ] || echo "writes could not be held: what is written now may be lost here" >&2
for _ in 1 2 3 4 5 6 7 8 9 10; do
  if caught_up; then break; fi
  sleep 0.1
done

end=$(($(date +%s) + seconds))
while [ "$(date +%s)" -lt "$end" ]; do
  now=$(sentinel SENTINEL GET-MASTER-ADDR-BY-NAME "$master")
  if [ -n "$now" ] && [ "$now" != "$before" ]; then
    echo "handed over to $(echo "$now" | tr '\n' ' ')"
    exit 0
  fi
  # Asked again and again: another failover may be going on, or no replica be fit yet; more than one is refused.
  sentinel SENTINEL FAILOVER "$master" >/dev/null
  sleep 0.3
done
server CLIENT UNPAUSE >/dev/null
echo "no other server became primary within $seconds s; writes go on here" >&2
exit 1
