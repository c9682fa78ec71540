// SPDX-License-Identifier: Apache-2.0

package control

import (
	"net/http"
	"slices"
	"strings"

	"github.com/volseal/volseal/internal/volume"
)

// route is one row of the API. A row that names no permission admits nobody.
type route struct {
	method string
	path   string
	needs  Permission
	verb   string   // the word in audit and metrics; "" for what only reads
	query  []string // the parameters it knows
	takes  bool     // it has arguments, in the body, which handle decodes
	status int
	handle func(*Server, *http.Request) (answer, error)
}

// answer is a body and what the reader needs to wait for the next one.
type answer struct {
	body   any
	cursor string
}

// routes is the whole API.
func routes() []route {
	waiting := []string{"wait", "cursor"}
	all := []route{
		{"GET", "/v1/volumes", Read, "", waiting, false, http.StatusOK, (*Server).listVolumes},
		{"GET", "/v1/volumes/{name}", Read, "", waiting, false, http.StatusOK, (*Server).showVolume},
		{"GET", "/v1/healthz", Read, "", nil, false, http.StatusOK, (*Server).healthz},
		{"GET", "/v1/readyz", Read, "", nil, false, http.StatusOK, (*Server).readyz},
		{"GET", "/v1/doctor", Operate, "doctor", nil, false, http.StatusOK, (*Server).doctor},
		{"POST", "/v1/keys/check", Operate, "key-check", nil, true, http.StatusOK, (*Server).checkKey},
		{"POST", "/v1/cache/flush", Operate, "cache-flush", nil, false, http.StatusOK, (*Server).flushCache},
		{"POST", "/v1/reload", Operate, "reload", nil, false, http.StatusOK, (*Server).reload},
		{"POST", "/v1/volumes/{name}/rotate", Destroy, "rotate", nil, true, http.StatusAccepted, (*Server).rotate},
		{"POST", "/v1/volumes/{name}/header/verify", Operate, "header-verify", nil, false, http.StatusOK, (*Server).verifyHeader},
		{"POST", "/v1/volumes/{name}/header/backup", Operate, "header-backup", nil, false, http.StatusOK, (*Server).backUpHeader},
		{"POST", "/v1/volumes/{name}/header/restore", Destroy, "header-restore", nil, true, http.StatusOK, (*Server).restoreHeader},
	}
	return append(all,
		wishRoute(volume.VerbInit, Destroy),
		wishRoute(volume.VerbUnlock, Operate),
		wishRoute(volume.VerbLock, Operate),
		wishRoute(volume.VerbReattach, Operate),
		wishRoute(volume.VerbRelease, Operate),
		wishRoute(volume.VerbAcceptHeader, Destroy),
		wishRoute(volume.VerbCreate, Destroy), // it costs money, and leads to a format
		wishRoute(volume.VerbRestore, Destroy),
	)
}

// wishRoute is a verb on a volume.
func wishRoute(verb volume.Verb, needs Permission) route {
	return route{"POST", "/v1/volumes/{name}/" + string(verb), needs, string(verb), nil, true, http.StatusAccepted, wish(verb)}
}

// Verbs lists the audited verbs, for metrics.
func Verbs() []string {
	var verbs []string
	for _, r := range routes() {
		if r.verb != "" {
			verbs = append(verbs, r.verb)
		}
	}
	return verbs
}

// mux serves the routes, and has an answer of ours for every other path and method.
func (s *Server) mux() *http.ServeMux {
	m := http.NewServeMux()
	methods := map[string][]string{}
	for _, r := range routes() {
		m.Handle(r.method+" "+r.path, s.serveRoute(r))
		methods[r.path] = append(methods[r.path], r.method)
	}
	for path, allowed := range methods {
		m.Handle(path, s.serveRoute(wrongMethod(path, allowed)))
	}
	m.Handle("/", s.serveRoute(route{needs: Read, handle: func(*Server, *http.Request) (answer, error) {
		return answer{}, noSuchPath()
	}}))
	return m
}

func wrongMethod(path string, allowed []string) route {
	slices.Sort(allowed)
	list := strings.Join(allowed, ", ")
	return route{path: path, needs: Read, handle: func(*Server, *http.Request) (answer, error) {
		return answer{}, &Error{Code: CodeMethodNotAllowed, Message: "This path knows only " + list + "."}
	}}
}
