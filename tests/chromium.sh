#!/bin/sh
# Install the browser that the labelling page is tested in, where this system's packages have it and we may.
# Without one those tests are skipped, with the reason.
set -eu
for name in chromium chromium-browser google-chrome; do
    command -v "$name" >/dev/null && exit
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo 'installing Chromium, for the tests of the labelling page ...'
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; } \
        >/dev/null || echo 'Chromium could not be installed: the tests of the labelling page are skipped'
else
    echo 'no Chromium here: the tests of the labelling page are skipped; install it with: apt install chromium'
fi
