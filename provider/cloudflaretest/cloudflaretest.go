// Package cloudflaretest is a Cloudflare for tests: an API server on loopback
// with zones and records, and faults on demand. It is written from the vendor's
// description of its API and knows nothing of the driver that it tests.
package cloudflaretest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"adt/provider/apitest"
)

// What lets in.
const (
	Token = "cf0123456789abcdefghijklmnopqrstuvwxyzABC"
	Email = "ops@example.com"
	Key   = "0123456789abcdef0123456789abcdef01234"
)

// Account is the id of the account that owns the zones.
const Account = "a0000000000000000000000000000001"

// Record is one of any type.
type Record struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Name    string `json:"name"` // fully qualified
	Content string `json:"content"`
	TTL     int    `json:"ttl"` // seconds; 1 is automatic
	Proxied bool   `json:"proxied"`
	Comment string `json:"comment,omitempty"`

	zone string // id
}

// Server is an account with its API. Operations are named by method and
// template: "GET /zones", "DELETE /zones/{zone}/dns_records/{id}".
type Server struct {
	*apitest.API
	URL string // with the path of the API

	mu      sync.Mutex
	last    int
	zones   map[string]string // id → name
	records []Record
}

// New starts an account that ends with the test. It has no zones.
func New(t testing.TB) *Server {
	s := &Server{zones: map[string]string{}}
	var url string
	s.API, url = apitest.Start(t, refuse, s.routes)
	s.URL = url + base
	return s
}

const base = "/client/v4"

func (s *Server) routes(api *apitest.API) http.Handler {
	mux := http.NewServeMux()
	for operation, do := range map[string]http.HandlerFunc{
		"GET /zones":                            s.listZones,
		"GET /zones/{zone}":                     s.getZone,
		"GET /zones/{zone}/dns_records":         s.inZone(s.listRecords),
		"POST /zones/{zone}/dns_records":        s.inZone(s.createRecord),
		"GET /zones/{zone}/dns_records/{id}":    s.inZone(s.getRecord),
		"DELETE /zones/{zone}/dns_records/{id}": s.inZone(s.deleteRecord),
		"GET /user/tokens/verify":               s.verify,
	} {
		method, path, _ := strings.Cut(operation, " ")
		mux.HandleFunc(method+" "+base+path, func(w http.ResponseWriter, r *http.Request) {
			api.Serve(w, r, operation, letIn(do))
		})
	}
	return mux
}

// letIn answers as the vendor does to a wrong token or key.
func letIn(do http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		token, hasToken := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch {
		case hasToken && token == Token, !hasToken && r.Header.Get("X-Auth-Email") == Email && r.Header.Get("X-Auth-Key") == Key:
			do(w, r)
		case hasToken && len(token) < 20:
			failure(w, http.StatusBadRequest, 6003, "Invalid request headers")
		default:
			failure(w, http.StatusForbidden, 10000, "Authentication error")
		}
	}
}

// object is one of JSON's.
type object map[string]any

func answer(w http.ResponseWriter, status int, body object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // fails when the client is gone
}

func success(w http.ResponseWriter, result any, more object) {
	body := object{"success": true, "errors": []any{}, "messages": []any{}, "result": result}
	for k, v := range more {
		body[k] = v
	}
	answer(w, http.StatusOK, body)
}

func failure(w http.ResponseWriter, status, code int, message string) {
	answer(w, status, object{
		"success": false, "errors": []object{{"code": code, "message": message}}, "messages": []any{}, "result": nil,
	})
}

func refuse(w http.ResponseWriter, status int) {
	failure(w, status, 1000+status, http.StatusText(status))
}

// page answers with the page of a listing that the request asks for.
func page[T any](w http.ResponseWriter, r *http.Request, items []T, usual, most int) {
	query := r.URL.Query()
	number, _ := strconv.Atoi(query.Get("page"))
	size, _ := strconv.Atoi(query.Get("per_page"))
	if size == 0 {
		size = usual
	}
	number, size = max(number, 1), min(size, most)
	from := min((number-1)*size, len(items))
	shown := append([]T{}, items[from:min(from+size, len(items))]...) // never null
	success(w, shown, object{"result_info": object{
		"page": number, "per_page": size, "count": len(shown), "total_count": len(items),
		"total_pages": (len(items) + size - 1) / size,
	}})
}

func (s *Server) verify(w http.ResponseWriter, _ *http.Request) {
	success(w, object{"id": strings.Repeat("e", 32), "status": "active"}, nil)
}

func (s *Server) listZones(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	query := r.URL.Query()
	zones := []object{}
	for id, name := range s.zones {
		if (query.Get("name") == "" || query.Get("name") == name) && (query.Get("account.id") == "" || query.Get("account.id") == Account) {
			zones = append(zones, zone(id, name))
		}
	}
	page(w, r, zones, 20, 50)
}

func (s *Server) getZone(w http.ResponseWriter, r *http.Request) {
	s.inZone(func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("zone")
		success(w, zone(id, s.zones[id]), nil)
	})(w, r)
}

func zone(id, name string) object {
	const when = "2026-01-02T03:04:05Z"
	return object{
		"id": id, "name": name, "status": "active", "paused": false, "type": "full", "development_mode": 0,
		"owner": object{"id": Account, "name": "ops", "type": "organization"}, "account": object{"id": Account, "name": "ops"},
		"meta": object{"step": 2}, "name_servers": []string{"bob.ns.example.com"}, "original_name_servers": []string{"ns1.example.org"},
		"original_registrar": nil, "original_dnshost": nil, "created_on": when, "modified_on": when, "activated_on": when,
	}
}

// inZone answers as the vendor does for a zone that the account does not have.
func (s *Server) inZone(do http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if _, known := s.zones[r.PathValue("zone")]; !known {
			failure(w, http.StatusNotFound, 7003, "Could not route to the zone, perhaps your object identifier is invalid?")
			return
		}
		do(w, r)
	}
}

func (s *Server) listRecords(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	var found []object
	for _, record := range s.records {
		if record.zone == r.PathValue("zone") && (query.Get("type") == "" || query.Get("type") == record.Type) &&
			(query.Get("name") == "" || query.Get("name") == record.Name) {
			found = append(found, record.shown())
		}
	}
	page(w, r, found, 100, 5000)
}

// shown is a record as the API gives it.
func (r Record) shown() object {
	o := object{
		"id": r.ID, "type": r.Type, "name": r.Name, "content": r.Content, "ttl": r.TTL, "proxied": r.Proxied,
		"proxiable": r.Type == "A", "tags": []string{}, "meta": object{}, "settings": object{},
		"created_on": "2026-01-02T03:04:05Z", "modified_on": "2026-01-02T03:04:05Z",
	}
	if r.Comment != "" {
		o["comment"] = r.Comment
	}
	if r.Type == "MX" {
		o["priority"] = 10
	}
	return o
}

func (s *Server) createRecord(w http.ResponseWriter, r *http.Request) {
	var wanted Record
	if err := json.NewDecoder(r.Body).Decode(&wanted); err != nil {
		failure(w, http.StatusBadRequest, 9207, "Failed to parse the request body")
		return
	}
	address, err := netip.ParseAddr(wanted.Content)
	same := func(r Record) bool {
		return r.zone == wanted.zone && r.Type == wanted.Type && r.Name == wanted.Name && r.Content == wanted.Content
	}
	wanted.zone = r.PathValue("zone")
	if wanted.Proxied {
		wanted.TTL = 1 // whatever was asked for
	}
	switch {
	case wanted.Type != "A" || err != nil || !address.Is4():
		failure(w, http.StatusBadRequest, 9005, "Content for A record must be a valid IPv4 address.")
	case wanted.TTL != 1 && (wanted.TTL < 60 || wanted.TTL > 86400):
		failure(w, http.StatusBadRequest, 9021, "TTL must be between 60 and 86400 seconds, or 1 for Automatic.")
	case !strings.HasSuffix("."+wanted.Name, "."+s.zones[wanted.zone]):
		failure(w, http.StatusBadRequest, 9000, "DNS name is invalid.")
	case slices.ContainsFunc(s.records, same):
		failure(w, http.StatusBadRequest, 81058, "An identical record already exists.")
	default:
		wanted.ID = s.id("f")
		s.records = append(s.records, wanted)
		success(w, wanted.shown(), nil)
	}
}

func (s *Server) getRecord(w http.ResponseWriter, r *http.Request) {
	if i := s.find(r); i >= 0 {
		success(w, s.records[i].shown(), nil)
		return
	}
	failure(w, http.StatusNotFound, 81044, "Record does not exist.")
}

func (s *Server) deleteRecord(w http.ResponseWriter, r *http.Request) {
	i := s.find(r)
	if i < 0 {
		failure(w, http.StatusNotFound, 81044, "Record does not exist.")
		return
	}
	id := s.records[i].ID
	s.records = slices.Delete(s.records, i, i+1)
	success(w, object{"id": id}, nil)
}

func (s *Server) find(r *http.Request) int {
	return slices.IndexFunc(s.records, func(record Record) bool {
		return record.ID == r.PathValue("id") && record.zone == r.PathValue("zone")
	})
}

// id makes an id of the vendor's form. The caller holds the lock.
func (s *Server) id(first string) string {
	s.last++
	return fmt.Sprintf("%s%031x", first, s.last)
}

// AddZone adds a zone and returns its id.
func (s *Server) AddZone(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := s.id("c")
	s.zones[id] = name
	return id
}

// AddRecord puts a record into a zone past the API, as somebody else would, and
// returns its id.
func (s *Server) AddRecord(zoneID string, record Record) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	record.ID, record.zone = s.id("f"), zoneID
	s.records = append(s.records, record)
	return record.ID
}

// Records are all of a zone, the oldest first.
func (s *Server) Records(zoneID string) []Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []Record
	for _, r := range s.records {
		if r.zone == zoneID {
			found = append(found, r)
		}
	}
	return found
}
