#!/bin/sh
# Run by Snakemake in the project's folder, inside of the environment of crossmodal.yaml.
set -eu
sh requirements/install.sh python
