// Package digitaloceantest is a DigitalOcean for tests: an API server on
// loopback with a state, real pages and quotas, and faults on demand. It is
// written from the vendor's description of its API and knows nothing of the
// driver that it tests.
package digitaloceantest

import (
	"context"
	"crypto/subtle"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"adt/provider"
	"adt/provider/apitest"
)

// Options are what an account begins with.
type Options struct {
	Token  string // the one that is let in; some token when empty
	Zone   string // the one domain of the account; "example.com" when empty
	Region string // the region that has all there is to buy; "lon1" when empty

	// Backing makes the machines and keeps the A records. With nil there are
	// only numbers: addresses appear at the second look at a droplet.
	Backing Backing
}

// Backing is a cloud behind the API.
type Backing interface {
	provider.Servers
	provider.DNS
}

// Server is an account with its API. Operations are named by method and
// template: "GET /v2/droplets", "DELETE /v2/droplets/{id}".
type Server struct {
	*apitest.API
	URL   string // "http://127.0.0.1:1234"
	Token string

	zone, region string
	backing      Backing
	inMemory     bool

	// making is held shared by who creates and alone by who looks, so that
	// nobody sees a machine of the backing before it has its tags.
	making sync.RWMutex

	mu        sync.Mutex // guards what follows
	droplets  map[string]*droplet
	foreign   []record
	names     map[string]bool // of A records
	ids       numbers
	keys      []key
	vpcs      []vpc
	images    []image
	firewalls []*firewall
	clusters  []*cluster
	limit     int // droplets at most
	left      int // requests in this hour
}

// New starts an account that ends with the test. It has sizes and images, but
// no keys, VPCs or firewalls.
func New(t testing.TB, o Options) *Server {
	s := &Server{
		Token: orElse(o.Token, "dop_v1_0123456789abcdef"), zone: orElse(o.Zone, "example.com"), region: orElse(o.Region, "lon1"),
		backing: o.Backing, inMemory: o.Backing == nil,
		droplets: map[string]*droplet{}, names: map[string]bool{},
		ids: numbers{known: map[string]int{}}, limit: 1000, left: hourly,
	}
	if s.inMemory {
		s.backing = &memory{}
	}
	s.images = s.publicImages()
	s.API, s.URL = apitest.Start(t, refuse, s.routes)
	return s
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

// action does one operation. What it returns is the answer's body as JSON; nil
// is none.
type action func(r *http.Request) (status int, body any)

func (s *Server) routes(api *apitest.API) http.Handler {
	mux := http.NewServeMux()
	for operation, do := range map[string]action{
		"GET /v2/droplets":                       s.listDroplets,
		"POST /v2/droplets":                      s.createDroplet,
		"GET /v2/droplets/{id}":                  s.getDroplet,
		"DELETE /v2/droplets/{id}":               s.deleteDroplet,
		"GET /v2/account":                        s.getAccount,
		"GET /v2/account/keys":                   s.listKeys,
		"GET /v2/vpcs":                           s.listVPCs,
		"GET /v2/images":                         s.listImages,
		"GET /v2/images/{id}":                    s.getImage,
		"GET /v2/sizes":                          s.listSizes,
		"GET /v2/regions":                        s.listRegions,
		"GET /v2/firewalls":                      s.listFirewalls,
		"GET /v2/firewalls/{id}":                 s.getFirewall,
		"POST /v2/firewalls/{id}/droplets":       s.attachDroplets,
		"GET /v2/databases":                      s.listDatabases,
		"GET /v2/databases/{id}/firewall":        s.listTrusted,
		"PUT /v2/databases/{id}/firewall":        s.replaceTrusted,
		"GET /v2/domains":                        s.listDomains,
		"GET /v2/domains/{zone}":                 s.getDomain,
		"GET /v2/domains/{zone}/records":         s.inZone(s.listRecords),
		"POST /v2/domains/{zone}/records":        s.inZone(s.createRecord),
		"DELETE /v2/domains/{zone}/records/{id}": s.inZone(s.deleteRecord),
	} {
		mux.HandleFunc(operation, func(w http.ResponseWriter, r *http.Request) {
			s.count(w.Header())
			api.Serve(w, r, operation, s.letIn(do))
		})
	}
	return mux
}

// letIn does an operation for who has the token.
func (s *Server) letIn(do action) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		status, body := http.StatusUnauthorized, any(refusal("unauthorized", "Unable to authenticate you"))
		if s.known(r.Header.Get("Authorization")) {
			status, body = do(r)
		}
		answer(w, status, body)
	}
}

func refuse(w http.ResponseWriter, status int) {
	answer(w, status, refusal("fault", http.StatusText(status)))
}

// count says in each answer what is left of the quota.
func (s *Server) count(header http.Header) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = max(s.left-1, 0)
	header.Set("RateLimit-Limit", strconv.Itoa(hourly))
	header.Set("RateLimit-Remaining", strconv.Itoa(s.left))
	header.Set("RateLimit-Reset", strconv.FormatInt(time.Now().Add(time.Hour).Unix(), 10))
}

func (s *Server) known(authorization string) bool {
	token, ok := strings.CutPrefix(authorization, "Bearer ")
	return ok && subtle.ConstantTimeCompare([]byte(token), []byte(s.Token)) == 1
}

// hourly is the vendor's quota of requests.
const hourly = 5000

// SetQuota sets how many requests are left in this hour. The account answers
// all the same when none are: see Fail for 429.
func (s *Server) SetQuota(left int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.left = left
}

// patience bounds what the backing takes for a change.
const patience = time.Minute

// lasting is for changes: the vendor makes them whether or not who asked is
// still there.
func lasting(r *http.Request) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(r.Context()), patience)
}
