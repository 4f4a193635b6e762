#!/bin/sh
# Finds a Chromium for the browser tests, installs one where the system lets it, or says what is missing.
for name in "${CHROMIUM:-}" chromium chromium-browser google-chrome; do
    if [ -n "$name" ] && command -v "$name" >/dev/null 2>&1; then exit 0; fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Chromium for the browser tests"
    apt-get update -qq && apt-get install -y -qq chromium >/dev/null && exit 0
fi
"${PYTHON:-python3}" -m playwright install chromium >/dev/null 2>&1 && exit 0
echo "No Chromium: the browser tests are skipped. Install it (apt install chromium) or set CHROMIUM=/path."
[ -z "${CI:-}" ]
