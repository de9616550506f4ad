package digitaloceantest

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"adt/provider"
)

// record is one of any type, its name relative to the zone.
type record struct {
	ID       int    `json:"id"`
	Type     string `json:"type"`
	Name     string `json:"name"`
	Data     string `json:"data"`
	TTL      int    `json:"ttl"` // seconds
	Priority *int   `json:"priority"`

	backingID string // of an A record
}

// The vendor's TTLs, in seconds.
const (
	shortestTTL = 30
	usualTTL    = 1800
)

func (s *Server) listDomains(r *http.Request) (int, any) {
	return paged(r, "domains", []object{s.domain()})
}

func (s *Server) getDomain(r *http.Request) (int, any) {
	if r.PathValue("zone") != s.zone {
		return notFound()
	}
	return http.StatusOK, object{"domain": s.domain()}
}

func (s *Server) domain() object { return object{"name": s.zone, "ttl": usualTTL, "zone_file": ""} }

// inZone answers 404 for a domain that the account does not have.
func (s *Server) inZone(do action) action {
	return func(r *http.Request) (int, any) {
		if r.PathValue("zone") != s.zone {
			return notFound()
		}
		return do(r)
	}
}

func (s *Server) listRecords(r *http.Request) (int, any) {
	query := r.URL.Query()
	found, err := s.records(r.Context(), query.Get("name"))
	if err != nil {
		return failed(err)
	}
	found = slices.DeleteFunc(found, func(r record) bool {
		kind := query.Get("type")
		return kind != "" && kind != r.Type
	})
	return paged(r, "domain_records", found)
}

// records are those of the fully qualified name, or of all names, the oldest
// first.
func (s *Server) records(ctx context.Context, name string) ([]record, error) {
	s.mu.Lock()
	var found []record
	for _, r := range s.foreign {
		if name == "" || s.qualified(r.Name) == name {
			found = append(found, r)
		}
	}
	names := []string{name}
	if name == "" {
		names = names[:0]
		for known := range s.names {
			names = append(names, known)
		}
	}
	s.mu.Unlock()
	for _, name := range names {
		as, err := s.backing.Records(ctx, name)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		for _, a := range as {
			found = append(found, record{
				ID: s.ids.of("record", a.ID), Type: "A", Name: s.relative(a.Name), Data: a.Address.String(),
				TTL: int(a.TTL.Seconds()), backingID: a.ID,
			})
		}
		s.mu.Unlock()
	}
	slices.SortFunc(found, func(a, b record) int { return cmp.Compare(a.ID, b.ID) })
	return found, nil
}

func (s *Server) createRecord(r *http.Request) (int, any) {
	var wanted record
	if err := json.NewDecoder(r.Body).Decode(&wanted); err != nil {
		return http.StatusBadRequest, refusal("bad_request", err.Error())
	}
	if wanted.TTL == 0 {
		wanted.TTL = usualTTL
	}
	address, err := netip.ParseAddr(wanted.Data)
	switch {
	case wanted.Type != "A":
		return unprocessable("this account takes only A records")
	case err != nil || !address.Is4():
		return unprocessable("Data needs to be an IPv4 address.")
	case wanted.Name == "":
		return unprocessable("Name can't be blank")
	case wanted.TTL < shortestTTL:
		return unprocessable("TTL needs to be at least %d", shortestTTL)
	}
	ctx, cancel := lasting(r)
	defer cancel()
	made, err := s.addA(ctx, wanted.Name, address, time.Duration(wanted.TTL)*time.Second)
	if err != nil {
		return failed(err)
	}
	return http.StatusCreated, object{"domain_record": made}
}

// addA adds an A record and returns it as the account then has it.
func (s *Server) addA(ctx context.Context, relative string, address netip.Addr, ttl time.Duration) (record, error) {
	name := s.qualified(relative)
	if err := s.backing.AddRecord(ctx, name, address, ttl); err != nil {
		return record{}, err
	}
	s.mu.Lock()
	s.names[name] = true
	s.mu.Unlock()
	found, err := s.records(ctx, name)
	if err != nil {
		return record{}, err
	}
	for _, r := range slices.Backward(found) {
		if r.Type == "A" && r.Data == address.String() {
			return r, nil
		}
	}
	return record{}, provider.ErrTemporary // removed in the meantime
}

func (s *Server) deleteRecord(r *http.Request) (int, any) {
	ctx, cancel := lasting(r)
	defer cancel()
	id, _ := strconv.Atoi(r.PathValue("id"))
	s.mu.Lock()
	if i := slices.IndexFunc(s.foreign, func(r record) bool { return r.ID == id }); i >= 0 {
		s.foreign = slices.Delete(s.foreign, i, i+1)
		s.mu.Unlock()
		return http.StatusNoContent, nil
	}
	backingID, known := s.ids.backing("record", id)
	s.mu.Unlock()
	if !known {
		return notFound()
	}
	if err := s.backing.RemoveRecord(ctx, backingID); err != nil {
		return failed(err)
	}
	return http.StatusNoContent, nil
}

func (s *Server) qualified(relative string) string {
	if relative == "@" {
		return s.zone
	}
	return relative + "." + s.zone
}

func (s *Server) relative(name string) string {
	if name == s.zone {
		return "@"
	}
	return strings.TrimSuffix(name, "."+s.zone)
}

// AddRecord puts a record of any type into the zone past its API, its name
// relative to the zone. One that is no A record is kept beside the backing.
func (s *Server) AddRecord(t testing.TB, kind, name, data string) {
	t.Helper()
	if kind == "A" {
		if _, err := s.addA(t.Context(), name, netip.MustParseAddr(data), time.Hour); err != nil {
			t.Fatalf("digitaloceantest: add the record %s %s: %v", name, data, err)
		}
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.foreign = append(s.foreign, record{ID: s.ids.next(), Type: kind, Name: name, Data: data, TTL: 3600})
}

// Zone is all records as "TYPE NAME DATA", the oldest first.
func (s *Server) Zone(t testing.TB) []string {
	t.Helper()
	found, err := s.records(t.Context(), "")
	if err != nil {
		t.Fatalf("digitaloceantest: %v", err)
	}
	var lines []string
	for _, r := range found {
		lines = append(lines, r.Type+" "+r.Name+" "+r.Data)
	}
	return lines
}
