// Package apitest is what the fakes of vendors' APIs have in common: a count of
// requests, and faults on demand.
package apitest

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
)

// Fault is what goes wrong with an operation. The zero Fault is none.
type Fault struct {
	Status int         // of the answer; 200 when only Body is set
	Header http.Header // besides those of every answer
	Body   string      // as it is; when empty, a refusal as the vendor words it

	Cut  bool // close the connection instead of an answer, or in the middle of Body
	Hang bool // answer nothing until the client gives up

	After bool   // the operation is done before it fails
	Do    func() // called before all else, to change things meanwhile

	Times int // how many requests it meets; 0 is all
}

func (f Fault) breaks() bool { return f.Status != 0 || f.Body != "" || f.Cut || f.Hang }

// API counts the requests of a fake and makes them fail.
type API struct {
	refuse func(w http.ResponseWriter, status int)
	over   chan struct{} // closed when the test ends

	mu       sync.Mutex
	requests map[string]int
	faults   map[string][]*Fault
}

// Start serves the handler that routes makes until the test ends, and returns
// its address. refuse answers with a status as the vendor words it.
func Start(t testing.TB, refuse func(http.ResponseWriter, int), routes func(*API) http.Handler) (*API, string) {
	a := &API{refuse: refuse, over: make(chan struct{}), requests: map[string]int{}, faults: map[string][]*Fault{}}
	server := httptest.NewServer(routes(a))
	t.Cleanup(func() {
		close(a.over) // or hanging requests would hold it up
		server.CloseClientConnections()
		server.Close()
	})
	return a, server.URL
}

// Fail makes requests of the operation fail. Several faults of one operation
// come one after the other.
func (a *API) Fail(operation string, fault Fault) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.faults[operation] = append(a.faults[operation], &fault)
}

// Heal ends all faults.
func (a *API) Heal() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.faults)
}

// Requests is how many there were of each operation, whatever came of them.
func (a *API) Requests() map[string]int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.requests)
}

// Serve does an operation, named by its method and template as in "GET
// /zones/{zone}", or what a fault makes of it.
func (a *API) Serve(w http.ResponseWriter, r *http.Request, operation string, do http.HandlerFunc) {
	fault := a.begin(operation)
	if fault.Do != nil {
		fault.Do()
	}
	switch {
	case !fault.breaks():
		do(w, r)
		return
	case fault.After:
		do(httptest.NewRecorder(), r)
	}
	a.fail(w, r, fault)
}

func (a *API) fail(w http.ResponseWriter, r *http.Request, fault Fault) {
	switch {
	case fault.Hang:
		select {
		case <-r.Context().Done():
		case <-a.over:
		}
		panic(http.ErrAbortHandler) // closes the connection without a word
	case fault.Cut && fault.Body == "":
		panic(http.ErrAbortHandler)
	case fault.Cut: // the client is told to expect more
		w.Header().Set("Content-Length", strconv.Itoa(2*len(fault.Body)))
	}
	for name, values := range fault.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	status := max(fault.Status, http.StatusOK)
	if fault.Body == "" {
		a.refuse(w, status)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(fault.Body))
	if fault.Cut {
		_ = http.NewResponseController(w).Flush() // or nothing at all would arrive
		panic(http.ErrAbortHandler)
	}
}

func (a *API) begin(operation string) Fault {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests[operation]++
	queue := a.faults[operation]
	if len(queue) == 0 {
		return Fault{}
	}
	fault := queue[0]
	if fault.Times == 1 {
		a.faults[operation] = slices.Delete(queue, 0, 1)
	} else if fault.Times > 1 {
		fault.Times--
	}
	return *fault
}
