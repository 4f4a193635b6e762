#!/bin/sh
# Finds a Chromium for the browser tests, installs one where the system lets it, or says what is missing.
found=
for name in "${CHROMIUM:-}" chromium-headless-shell chromium chromium-browser google-chrome; do
    if [ -z "$found" ] && [ -n "$name" ] && command -v "$name" >/dev/null 2>&1; then found=$name; fi
done
# A machine of CI takes the shell even where a whole browser is: it needs half of the processor time.
if [ -n "$found" ] && { [ -z "${CI:-}" ] || [ "$found" != chromium ]; }; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Chromium for the browser tests"
    apt-get update -qq
    for package in chromium-headless-shell chromium; do
        if apt-get install -y -qq "$package" >/dev/null 2>&1; then exit 0; fi
    done
fi
if [ -n "$found" ]; then exit 0; fi
"${PYTHON:-python3}" -m playwright install chromium >/dev/null 2>&1 && exit 0
echo "No Chromium: the browser tests are skipped. Install it (apt install chromium) or set CHROMIUM=/path."
[ -z "${CI:-}" ]
