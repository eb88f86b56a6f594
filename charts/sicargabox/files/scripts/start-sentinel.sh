#!/bin/sh
# Starts a Sentinel: the first process of a Sentinel pod.
#
# What it learned (its own name, who is primary, the epochs, replicas, the other Sentinels) is taken from the file it
# wrote itself; the rest is made anew, so that a new release's settings and new passwords take effect. One that knows
# nothing asks the others, and only where none of them answers (the first start) names the first server.
#
# Reads: POD_NAME, POD_DOMAIN, FIRST_PRIMARY, SENTINELS as "host:port host:port"; files in CONFIG and SECRETS
# (sentinel/…: its users, redis/sentinel: its password at the servers); writes into DATA.
set -eu
umask 077
config=${CONFIG:-/config} secrets=${SECRETS:-/secrets} data=${DATA:-/data}
port=${SENTINEL_PORT:-26379} redis_port=${REDIS_PORT:-6379}
# shellcheck source-path=SCRIPTDIR
. "${SCRIPTS:-/scripts}/ask-sentinels.sh"

file=$data/sentinel.conf
learned='^sentinel (myid|monitor|config-epoch|leader-epoch|current-epoch|known-replica|known-slave|known-sentinel) '
kept=$(grep -E "$learned" "$file" 2>/dev/null || true)
if ! printf '%s\n' "$kept" | grep -q '^sentinel monitor mymaster '; then
  look
  if [ "$answered" -gt 0 ]; then
    say "the other Sentinels name $named"
    primary=$named
  else
    say "nobody knows a primary: the first server is watched"
    primary=$FIRST_PRIMARY
  fi
  kept=$(printf '%s\n' "$kept" "sentinel monitor mymaster $primary $redis_port $majority")
fi

# A name of its own making, not of chance: one that lost its volume would else be a fourth Sentinel to the others, who
# count the third for ever and want three of four for a failover.
if ! printf '%s\n' "$kept" | grep -q '^sentinel myid '; then
  kept=$(printf '%s\n' "$kept" "sentinel myid $(printf %s "$POD_NAME.$POD_DOMAIN" | sha1sum | cut -c1-40)")
fi

sh "$config/render-users.sh" "$config/sentinel-users.acl" "$secrets/sentinel" >"$data/users.acl"
{
  cat "$config/sentinel.conf"
  echo "port $port"
  echo "dir $data"
  echo "aclfile $data/users.acl"
  echo "sentinel auth-user mymaster sentinel"
  echo "sentinel auth-pass mymaster $(quoted "$secrets/redis/sentinel")"
  echo "sentinel sentinel-user sentinel"
  echo "sentinel sentinel-pass $(quoted "$secrets/sentinel/sentinel")"
  echo "sentinel announce-ip $POD_NAME.$POD_DOMAIN"
  echo "sentinel announce-port $port"
  printf '%s\n' "$kept"
} >"$file.new"
mv "$file.new" "$file"
exec redis-server "$file" --sentinel
