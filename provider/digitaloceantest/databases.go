package digitaloceantest

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"testing"
)

// cluster is a managed database.
type cluster struct {
	ID, Name string
	rules    []trusted
}

// trusted is a rule of a database's firewall, which the control panel calls a
// trusted source.
type trusted struct {
	ID          string `json:"uuid"`
	Cluster     string `json:"cluster_uuid"`
	Type        string `json:"type"`
	Value       string `json:"value"`
	Created     string `json:"created_at"`
	Description string `json:"description,omitempty"`
}

// mostTrusted is the vendor's limit.
const mostTrusted = 100

func (s *Server) listDatabases(*http.Request) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []object{}
	for _, c := range s.clusters {
		all = append(all, object{
			"id": c.ID, "name": c.Name, "engine": "pg", "version": "17", "num_nodes": 1, "size": "db-s-1vcpu-1gb",
			"region": s.region, "status": "online", "created_at": created,
		})
	}
	return http.StatusOK, object{"databases": all}
}

func (s *Server) clusterWith(id string) *cluster {
	for _, c := range s.clusters {
		if c.ID == id {
			return c
		}
	}
	return nil
}

func (s *Server) listTrusted(r *http.Request) (int, any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clusterWith(r.PathValue("id"))
	if c == nil {
		return notFound()
	}
	return http.StatusOK, object{"rules": append([]trusted{}, c.rules...)}
}

// replaceTrusted is the only way to change rules: all of them at once.
func (s *Server) replaceTrusted(r *http.Request) (int, any) {
	var body struct{ Rules []trusted }
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		return http.StatusBadRequest, refusal("bad_request", err.Error())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clusterWith(r.PathValue("id"))
	if c == nil {
		return notFound()
	}
	if len(body.Rules) > mostTrusted {
		return unprocessable("a cluster has at most %d trusted sources", mostTrusted)
	}
	var rules []trusted
	for _, t := range body.Rules {
		if !slices.Contains([]string{"droplet", "k8s", "ip_addr", "tag", "app"}, t.Type) || t.Value == "" {
			return unprocessable("invalid rule %s %s", t.Type, t.Value)
		}
		if t.Type == "ip_addr" && !isIPv4(t.Value) {
			return unprocessable("invalid address %s", t.Value)
		}
		if slices.ContainsFunc(rules, func(o trusted) bool { return o.Type == t.Type && o.Value == t.Value }) {
			return unprocessable("duplicate rule %s %s", t.Type, t.Value)
		}
		kept := slices.IndexFunc(c.rules, func(o trusted) bool { return o.Type == t.Type && o.Value == t.Value })
		if kept >= 0 {
			t.ID, t.Created = c.rules[kept].ID, c.rules[kept].Created
		} else {
			t.ID, t.Created = uuid(s.ids.next()), created
		}
		t.Cluster = c.ID
		rules = append(rules, t)
	}
	c.rules = rules
	return http.StatusNoContent, nil
}

func isIPv4(text string) bool {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Is4()
	}
	p, err := netip.ParsePrefix(text)
	return err == nil && p.Addr().Is4()
}

// AddDatabase adds a managed database that trusts nobody, and returns its id.
func (s *Server) AddDatabase(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := uuid(s.ids.next())
	s.clusters = append(s.clusters, &cluster{ID: id, Name: name})
	return id
}

// Trust adds a rule as the control panel does.
func (s *Server) Trust(t testing.TB, databaseID, kind, value, description string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clusterWith(databaseID)
	if c == nil {
		t.Fatalf("digitaloceantest: there is no database %s", databaseID)
	}
	c.rules = append(c.rules, trusted{ID: uuid(s.ids.next()), Cluster: c.ID, Type: kind, Value: value, Created: created, Description: description})
}

// Trusted are a database's rules as "ip_addr 10.0.0.1", with the description of
// those that others made, sorted.
func (s *Server) Trusted(t testing.TB, databaseID string) []string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clusterWith(databaseID)
	if c == nil {
		t.Fatalf("digitaloceantest: there is no database %s", databaseID)
	}
	var all []string
	for _, r := range c.rules {
		text := r.Type + " " + r.Value
		if r.Description != "" && r.Description != "adt" {
			text += " (" + r.Description + ")"
		}
		all = append(all, text)
	}
	slices.Sort(all)
	return all
}

// Distrust removes a rule as the control panel does.
func (s *Server) Distrust(databaseID, value string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.clusterWith(databaseID); c != nil {
		c.rules = slices.DeleteFunc(c.rules, func(r trusted) bool { return r.Value == value })
	}
}

// Databases are the ids of the managed databases, the oldest first.
func (s *Server) Databases() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for _, c := range s.clusters {
		ids = append(ids, c.ID)
	}
	return ids
}
