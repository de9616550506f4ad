package digitaloceantest

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"testing"
)

type firewall struct {
	ID       string   `json:"id"`
	Name     string   `json:"name"`
	Status   string   `json:"status"`
	Created  string   `json:"created_at"`
	Droplets []int    `json:"droplet_ids"`
	Tags     []string `json:"tags"`
	Inbound  []object `json:"inbound_rules"`
	Outbound []object `json:"outbound_rules"`
	Pending  []object `json:"pending_changes"`
}

func (s *Server) listFirewalls(r *http.Request) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]firewall, len(s.firewalls))
	for i, f := range s.firewalls {
		all[i] = f.copy()
	}
	return paged(r, "firewalls", all)
}

func (s *Server) getFirewall(r *http.Request) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.firewallWith(r.PathValue("id")); f != nil {
		return http.StatusOK, object{"firewall": f.copy()}
	}
	return notFound()
}

func (s *Server) attachDroplets(r *http.Request) (int, any) {
	var body struct {
		Droplets []int `json:"droplet_ids"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return http.StatusBadRequest, refusal("bad_request", err.Error())
	}
	all, err := s.machines(r.Context())
	if err != nil {
		return failed(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.firewallWith(r.PathValue("id"))
	if f == nil {
		return notFound()
	}
	for _, id := range body.Droplets {
		if !slices.ContainsFunc(all, func(m machine) bool { return m.droplet.id == id }) {
			return unprocessable("droplet %d was not found", id)
		}
	}
	for _, id := range body.Droplets {
		if !slices.Contains(f.Droplets, id) {
			f.Droplets = append(f.Droplets, id)
		}
	}
	return http.StatusNoContent, nil
}

func (s *Server) firewallWith(id string) *firewall {
	for _, f := range s.firewalls {
		if f.ID == id {
			return f
		}
	}
	return nil
}

// copy is for answers, which are written when the lock is free again.
func (f *firewall) copy() firewall {
	c := *f
	c.Droplets = slices.Clone(f.Droplets)
	return c
}

// AddFirewall adds a firewall that lets HTTPS in, and returns its id.
func (s *Server) AddFirewall(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	anywhere := object{"addresses": []string{"0.0.0.0/0"}}
	f := &firewall{
		ID: uuid(s.ids.next()), Name: name, Status: "succeeded", Created: created, Droplets: []int{}, Tags: []string{}, Pending: []object{},
		Inbound:  []object{{"protocol": "tcp", "ports": "443", "sources": anywhere}},
		Outbound: []object{{"protocol": "tcp", "ports": "all", "destinations": anywhere}},
	}
	s.firewalls = append(s.firewalls, f)
	return f.ID
}

// Attached are the ids of the droplets that are attached to the firewall, in
// the order of attaching.
func (s *Server) Attached(t testing.TB, firewallID string) []string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.firewallWith(firewallID)
	if f == nil {
		t.Fatalf("digitaloceantest: there is no firewall %s", firewallID)
	}
	var ids []string
	for _, id := range f.Droplets {
		ids = append(ids, strconv.Itoa(id))
	}
	return ids
}
