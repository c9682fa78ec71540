# SPDX-License-Identifier: Apache-2.0
# Always the ones of the installed binary.
# shellcheck source=/dev/null
source <(volseal completion bash)
