#!/usr/bin/env bash
# A Chromium for the tests of the page: what is there, else by apt-get, else Playwright's own.
set -euo pipefail
python=${PYTHON:-.venv/bin/python}
find_it() { "$python" -c 'from preimage.serve.browsers import find_chromium; print(find_chromium() or "")'; }
if [ -z "$(find_it)" ] && command -v apt-get >/dev/null; then
  sudo=$([ "$(id -u)" = 0 ] || command -v sudo || true)
  $sudo apt-get update -qq && $sudo apt-get install -y -qq chromium || true
fi
[ -n "$(find_it)" ] || "$python" -m playwright install chromium
echo "Chromium: $(find_it)"
