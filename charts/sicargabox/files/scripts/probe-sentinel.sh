#!/bin/sh
# Probes of a Sentinel. probe-sentinel.sh live: it answers. probe-sentinel.sh ready: it knows a primary.
set -eu
host=${SENTINEL_HOST:-127.0.0.1} port=${SENTINEL_PORT:-26379}
REDISCLI_AUTH=$(cat "${SECRETS:-/secrets/sentinel}/reader")
export REDISCLI_AUTH
sentinel() { timeout 8 redis-cli -h "$host" -p "$port" --user reader "$@" 2>/dev/null || true; }
case $1 in
  live) [ "$(sentinel PING)" = PONG ] ;;
  ready) [ -n "$(sentinel SENTINEL GET-MASTER-ADDR-BY-NAME mymaster)" ] ;;
  *) exit 1 ;;
esac
