package digitaloceantest

import (
	"strconv"
	"strings"
	"testing"

	"adt/provider"
)

// AddDroplet puts a droplet into the account past its API, as somebody else
// would, and returns its id.
func (s *Server) AddDroplet(t testing.TB, name string, tags ...string) string {
	t.Helper()
	s.making.RLock()
	defer s.making.RUnlock()
	server, err := s.backing.Create(t.Context(), provider.Spec{Name: name})
	if err != nil {
		t.Fatalf("digitaloceantest: add the droplet %s: %v", name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.dropletOf(server.ID)
	d.tags = append(d.tags, tags...)
	return strconv.Itoa(d.id)
}

// DropletID is the droplet's id of a machine of the backing.
func (s *Server) DropletID(machine string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strconv.Itoa(s.ids.of("droplet", machine))
}

// RemoveDroplet takes a droplet out of the account past its API.
func (s *Server) RemoveDroplet(t testing.TB, id string) {
	t.Helper()
	m, err := s.machine(t.Context(), id)
	if err == nil {
		err = s.backing.Destroy(t.Context(), m.ID)
	}
	if err != nil {
		t.Fatalf("digitaloceantest: remove the droplet %s: %v", id, err)
	}
}

// Names are the droplets' names, the oldest first.
func (s *Server) Names(t testing.TB) []string {
	t.Helper()
	all, err := s.machines(t.Context())
	if err != nil {
		t.Fatalf("digitaloceantest: %v", err)
	}
	names := make([]string, len(all))
	for i, m := range all {
		names[len(all)-1-i] = m.Name
	}
	return names
}

// droplet returns the one with the id, which fails the test when there never
// was one.
func (s *Server) droplet(t testing.TB, id string) droplet {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.droplets {
		if strconv.Itoa(d.id) == id {
			return *d
		}
	}
	t.Fatalf("digitaloceantest: there was never a droplet %s", id)
	return droplet{}
}

// UserData is what the droplet was given to boot from. It is known also of one
// that is gone.
func (s *Server) UserData(t testing.TB, id string) []byte {
	t.Helper()
	return []byte(s.droplet(t, id).userData)
}

// Tags are the droplet's, joined by spaces.
func (s *Server) Tags(t testing.TB, id string) string {
	t.Helper()
	return strings.Join(s.droplet(t, id).tags, " ")
}

// VPC is the id of the one that the droplet was ordered into; "" is none.
func (s *Server) VPC(t testing.TB, id string) string {
	t.Helper()
	return s.droplet(t, id).vpc
}

// LimitDroplets sets how many droplets the account may have.
func (s *Server) LimitDroplets(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = limit
}
