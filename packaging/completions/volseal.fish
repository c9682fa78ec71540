# SPDX-License-Identifier: Apache-2.0
volseal completion fish | source
