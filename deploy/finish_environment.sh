#!/bin/sh
# The last step of an image's environment: finish_environment.sh ENVIRONMENT TOOLS. It writes what is installed as a bill of
# materials (CycloneDX, sbom.cdx.json) and removes what nothing uses at run time: tests, and what compilers read.
# TOOLS is an environment with what build_tools.txt names.
set -eu
"$2/bin/cyclonedx-py" environment --output-reproducible --output-format JSON --output-file "$1/sbom.cdx.json" "$1/bin/python"
for packages in "$1"/lib/python3*/site-packages; do
    find "$packages" -type d -name tests -prune -exec rm -rf {} +
    # Of torch/bin, torch itself asks for one program.
    rm -rf "$packages/torch/test" "$packages/torch/include"
    find "$packages" -path '*/torch/bin/*' ! -name torch_shm_manager -delete
done
