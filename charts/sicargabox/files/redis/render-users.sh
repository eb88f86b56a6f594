#!/bin/sh
# Makes of a template (users.acl, sentinel-users.acl) what `aclfile` reads: render-users.sh TEMPLATE FOLDER > FILE
# FOLDER holds one file per user with that user's password; a user without a file is left out. Redis reads neither
# comments nor broken lines in an aclfile, and wants the SHA-256 of passwords if not the passwords themselves.
set -eu
umask 077
template=$1 folder=$2

grep -v -e '^#' -e '^[[:space:]]*$' "$template" |
  awk '/^user / { if (line) print line; line = $0; next } { sub(/^ +/, " "); line = line $0 } END { print line }' |
  while IFS= read -r line; do
    name=${line#user }
    name=${name%% *}
    case $line in
      *"#{$name}"*)
        [ -s "$folder/$name" ] || continue
        # $(…) drops the line end that an editor leaves behind the password.
        hash=$(printf %s "$(cat "$folder/$name")" | sha256sum | cut -c1-64)
        printf '%s\n' "${line%%"#{$name}"*}#$hash${line#*"#{$name}"}"
        ;;
      *) printf '%s\n' "$line" ;;
    esac
  done
