// SPDX-License-Identifier: Apache-2.0

// Package control is the conversation between the agent and its operators:
// HTTP/JSON over a Unix socket, the server in the agent and the one client that
// the command line uses. It holds the API's types, the table of routes with the
// permission each needs, and the peer credentials that permission comes from.
//
// Nothing here decides about volumes: a verb only records what an operator
// wishes, and the Agent behind the interface acts on it. Nothing here prints.
package control
