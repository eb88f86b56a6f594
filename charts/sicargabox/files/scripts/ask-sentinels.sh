# shellcheck shell=sh
# Sourced by the start scripts: what the Sentinels say. Reads SENTINELS, as "host:port host:port".

# How many of three must agree, and for how long fewer are not believed (the others may just be starting).
majority=2
patience=${PATIENCE_SECONDS:-30}

ask_sentinel() { # ask_sentinel HOST:PORT COMMAND…
  where=$1
  shift
  REDISCLI_AUTH=$(cat "${SENTINEL_READER_PASSWORD_FILE:-/secrets/sentinel/reader}")
  export REDISCLI_AUTH
  timeout 2 redis-cli -h "${where%:*}" -p "${where##*:}" --user reader "$@" 2>/dev/null || true
}

# One look at all of them: `answered` Sentinels, of which `votes` name `named`; most know of `replicas` replicas.
# shellcheck disable=SC2034  # read by whoever sources this
look() {
  told=$(for one in $SENTINELS; do
    ask_sentinel "$one" SENTINEL MASTER mymaster | tr -d '\r' |
      awk 'NR % 2 { key = $0; next } { value[key] = $0 }
           END { if (value["ip"] != "") print value["ip"], value["num-slaves"] + 0 }'
  done)
  answered=$(printf '%s\n' "$told" | grep -c . || true)
  replicas=$(printf '%s\n' "$told" | awk '$2 > most { most = $2 } END { print most + 0 }')
  favourite=$(printf '%s\n' "$told" | awk 'NF { count[$1]++ }
    END { for (name in count) if (count[name] > most) { most = count[name]; best = name } print most + 0, best }')
  votes=${favourite%% *} named=${favourite#* }
}

# Whether `named` may be believed, so many seconds after the first look.
agreed() { # agreed SECONDS
  [ "$answered" -gt 0 ] || return 1
  [ "$votes" -ge "$majority" ] || { [ "$1" -ge "$patience" ] && [ $((votes * 2)) -gt "$answered" ]; }
}

# Any password in Redis' own quotes.
quoted() { # quoted FILE
  printf '"%s"' "$(printf %s "$(cat "$1")" | od -An -v -tx1 | tr -d '\n' | sed 's/ /\\x/g')"
}

say() { printf 'start: %s\n' "$*" >&2; }
