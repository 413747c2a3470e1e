#!/usr/bin/env bash
exec "${PYTHON:-python3}" -P -m zoo.scripts.cli launch local "$@"
