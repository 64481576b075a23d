#!/bin/sh
# SPDX-License-Identifier: MIT
# Runs the crash driver against a server that is known to be bad; succeeds only
# if the driver finds a violation (exit code 1 and a report of it).
output=$("$@")
code=$?
echo "$output"
if [ "$code" -ne 1 ] || ! echo "$output" | grep -q '^VIOLATION'; then
  echo "the checker did not notice (exit code $code)" >&2
  exit 1
fi
if echo "$output" | grep -q '"kills":0,'; then
  echo "the server was bad before it was killed" >&2
  exit 1
fi
directory=$(echo "$output" | sed -n 's/^VIOLATION.*directory kept: \(.*\))$/\1/p')
case "$directory" in
  /dev/shm/xs-crash.*) rm -rf "$directory" ;;
esac
