#!/bin/sh
# A post-receive hook that does what a small Heroku-style host does with a push: checks the tree out, installs the
# packages without the development ones, runs the release line of the Procfile, and starts every process line through
# `sh -c`. Nothing but the variables of <repository>/env, HOME and PATH reaches the application. The process numbers go to
# <repository>/pids, the output to <repository>/log/<type>.
set -eu
repository=$(pwd)
app=$repository/app
mkdir -p "$app" "$repository/log"
read -r _old revision _ref

git archive "$revision" | tar -x -C "$app"
unset GIT_DIR
cd "$app"

# Becomes a shell command line run as the host would run it: with the application's environment alone.
as_app() {
  # shellcheck disable=SC2046
  exec env -i HOME="$repository" PATH="$PATH" $(cat "$repository/env") sh -c "$1"
}
line_of() { sed -n "s/^$1: *//p" Procfile; }

echo 'Installing'
# The build is the host's own work, with what the host needs to reach the registry.
npm ci --omit=dev --no-audit --no-fund --loglevel=error --prefer-offline
echo 'Releasing'
(as_app "$(line_of release)")
for type in $(sed -n 's/^\([a-z-]*\):.*/\1/p' Procfile); do
  [ "$type" = release ] && continue
  echo "Starting $type"
  as_app "exec $(line_of "$type")" >"$repository/log/$type" 2>&1 </dev/null &
  echo "$! $type" >>"$repository/pids"
done
echo 'Deployed'
