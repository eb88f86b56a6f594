#!/bin/sh
# Starts a Redis server in the role that the Sentinels give it: the first process of a Redis pod.
#
# No number makes a primary. The one that the Sentinels name is joined. As long as they name this very pod it waits: a
# primary that was killed is back after 2.5 s, before they have noticed, and if it went on as if nothing had been, either
# nobody was promoted or there were two primaries for twelve seconds (measured). It begins as primary only where nobody
# can be promoted in its place: no replica was ever known (the first start), or none answers.
#
# Reads: STANDALONE (a server without Sentinels), QUEUES, POD_NAME, POD_DOMAIN, MEMBERS and SENTINELS as "host:port
# host:port"; files in CONFIG and SECRETS; writes into RUN and DATA.
set -eu
umask 077
config=${CONFIG:-/config} secrets=${SECRETS:-/secrets/redis} run=${RUN:-/run/redis} data=${DATA:-/data}
port=${REDIS_PORT:-6379}
# Nobody answers: others that start beside this one do so within seconds.
alone=${ALONE_SECONDS:-10}
# The Sentinels need 4.4 s, and twice 15 s more when their first failover gets stuck.
longest=${LONGEST_SECONDS:-60}
# shellcheck source-path=SCRIPTDIR
. "${SCRIPTS:-/scripts}/ask-sentinels.sh"

# The template names the queues of the product; a further one is a key that the same users may touch.
sh "$config/render-users.sh" "$config/users.acl" "$secrets" >"$run/users.template"
keys='' seen=''
for queue in ${QUEUES:-}; do
  keys="$keys ~$queue*" seen="$seen %R~$queue*"
done
sed -E -e "s/^user (api|scheduler|worker) .*/&$keys/" -e "s/^user flower .*/&$seen/" "$run/users.template" >"$run/users.acl"
rm "$run/users.template"
{
  echo "include $config/redis.conf"
  echo "port $port"
  echo "dir $data"
  echo "aclfile $run/users.acl"
} >"$run/redis.conf"

someone_else_answers() {
  for one in $MEMBERS; do
    [ "$one" != "$own:$port" ] || continue
    # Without a password: any answer at all shows a server, one that loads its data too.
    [ -z "$(timeout 1 redis-cli -h "${one%:*}" -p "${one##*:}" PING 2>/dev/null || true)" ] || return 0
  done
  return 1
}

if [ -z "${STANDALONE:-}" ]; then
  own=$POD_NAME.$POD_DOMAIN
  {
    echo "include $config/replicated.conf"
    echo "masterauth $(quoted "$secrets/replication")"
    echo "replica-announce-ip $own"
    echo "replica-announce-port $port"
  } >>"$run/redis.conf"
  began=$(date +%s) alone_since='' said=''
  while :; do
    look
    now=$(date +%s)
    if ! agreed $((now - began)); then
      reason="waiting for the Sentinels: $answered answer, $votes name ${named:-nobody}"
    elif [ "$named" != "$own" ]; then
      say "joining $named, which the Sentinels name"
      echo "replicaof $named $port" >>"$run/redis.conf"
      break
    elif [ "$replicas" -eq 0 ]; then
      say "primary: the Sentinels know no replica yet"
      break
    else
      reason="waiting: the Sentinels still name this pod, and are to name another"
      if someone_else_answers; then
        alone_since=''
      else
        alone_since=${alone_since:-$now}
        if [ $((now - alone_since)) -ge "$alone" ]; then
          say "primary: the Sentinels name this pod and no other server answers"
          break
        fi
      fi
      if [ $((now - began)) -ge "$longest" ]; then
        say "primary: the Sentinels have named this pod for $longest s"
        break
      fi
    fi
    [ "$reason" = "$said" ] || say "$reason"
    said=$reason
    sleep 0.5
  done
fi
exec redis-server "$run/redis.conf"
