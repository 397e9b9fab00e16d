#!/bin/sh
# What the demo image runs.
echo "$GREETING from $(id -u), built as an ordinary user"
cat /usr/share/demo/built
