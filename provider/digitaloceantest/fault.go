package digitaloceantest

import (
	"net/http"
	"slices"
	"strconv"
)

// Fault is what goes wrong with an operation. The zero Fault is none.
type Fault struct {
	Status int         // of the answer; 200 when only Body is set
	Header http.Header // besides those of every answer
	Body   string      // as it is; when empty, a refusal as the vendor words it

	Cut  bool // close the connection instead of an answer, or in the middle of Body
	Hang bool // answer nothing until the client gives up

	After bool   // the operation is done before it fails
	Do    func() // called before all else, to change the account meanwhile

	Times int // how many requests it meets; 0 is all
}

func (f Fault) breaks() bool { return f.Status != 0 || f.Body != "" || f.Cut || f.Hang }

// Fail makes requests of the operation fail. Several faults of one operation
// come one after the other.
func (s *Server) Fail(operation string, fault Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[operation] = append(s.faults[operation], &fault)
}

// Heal ends all faults.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
}

func (s *Server) nextFault(operation string) Fault {
	queue := s.faults[operation]
	if len(queue) == 0 {
		return Fault{}
	}
	fault := queue[0]
	if fault.Times == 1 {
		s.faults[operation] = slices.Delete(queue, 0, 1)
	} else if fault.Times > 1 {
		fault.Times--
	}
	return *fault
}

func (s *Server) fail(w http.ResponseWriter, r *http.Request, fault Fault) {
	switch {
	case fault.Hang:
		select {
		case <-r.Context().Done():
		case <-s.over:
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
	status := fault.Status
	if status == 0 {
		status = http.StatusOK
	}
	if fault.Body == "" {
		answer(w, status, refusal("fault", http.StatusText(status)))
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
