#!/bin/sh
# Probes of a Redis server. probe-redis.sh live: it answers, if only that it loads or wants a password.
# probe-redis.sh ready: it is primary, or a replica whose primary it has caught up with; so a rolling update goes on only
# when nothing would be lost with the next pod.
set -eu
host=${REDIS_HOST:-127.0.0.1} port=${REDIS_PORT:-6379}
case $1 in
  live) # A server that was just asked for a password has an event loop that turns.
    case $(timeout 8 redis-cli -h "$host" -p "$port" PING 2>&1 || true) in
      *PONG* | *NOAUTH* | *LOADING* | *MASTERDOWN*) exit 0 ;;
    esac
    ;;
  ready)
    REDISCLI_AUTH=$(cat "${SECRETS:-/secrets/redis}/exporter")
    export REDISCLI_AUTH
    timeout 8 redis-cli -h "$host" -p "$port" --user exporter INFO replication 2>/dev/null |
      tr -d '\r' | grep -qE '^(role:master|master_link_status:up)$' && exit 0
    ;;
esac
exit 1
