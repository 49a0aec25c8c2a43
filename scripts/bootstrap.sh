# Sourced by scripts/dev and scripts/test: goes to the root of the checkout, checks that Node and npm are there, and
# installs the npm packages when they are missing or package-lock.json asks for others. Needs nothing but sh.

NODE_MAJOR_MIN=20

say() { printf '%s\n' "$*" >&2; }

cd "$(dirname "$0")/.." || exit 1

for tool in node npm; do
  if ! command -v "$tool" >/dev/null 2>&1; then
    say "Monogram needs Node.js $NODE_MAJOR_MIN or later with npm, and there is no \`$tool\` on the PATH."
    say "Install it from https://nodejs.org (or your system's packages), then run $0 again."
    exit 1
  fi
done

node_version=$(node -p process.versions.node)
if [ "${node_version%%.*}" -lt "$NODE_MAJOR_MIN" ]; then
  say "Monogram needs Node.js $NODE_MAJOR_MIN or later to install itself (it then brings its own Node 24); this is $node_version."
  exit 1
fi

if ! node scripts/stack/is-installed.mjs; then
  say 'Installing the npm packages (a minute or two the first time) ...'
  # Only errors: npm would warn at length that our own Node, which it is about to install, is not the one running it.
  npm ci --include=dev --no-audit --no-fund --loglevel=error >&2 || { say 'npm ci failed: see above.'; exit 1; }
  node scripts/stack/is-installed.mjs || { say 'npm ci left packages out: does an .npmrc say so?'; exit 1; }
fi

# Node 24 is one of those packages: whatever we start finds it first.
PATH="$PWD/node_modules/.bin:$PATH"
export PATH
