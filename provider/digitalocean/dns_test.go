package digitalocean_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"adt/provider"
	"adt/provider/apitest"
	"adt/provider/digitalocean"
	"adt/provider/digitaloceantest"
)

func TestZone(t *testing.T) {
	checked(t, map[string]func(*testing.T, *checker){
		"foreign records": foreignRecords,
		"an added record": addedRecord,
		"added at once":   addedAtOnce,
		"a missing zone":  missingZone,
	})
}

func ip(last int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, byte(last)}) }

// zone is an account whose domain others use too.
func zone(t *testing.T) *digitaloceantest.Server {
	t.Helper()
	api := account(t)
	for _, r := range []string{
		"MX @ mail.example.com.", "CNAME api www.example.com.", "TXT www v=spf1", "AAAA www 2001:db8::1", "NS @ ns1.digitalocean.com.",
		"A @ 203.0.113.1", "A w-www 203.0.113.1", "A www2 203.0.113.1", "A a.www 203.0.113.1",
	} {
		f := strings.Fields(r)
		api.AddRecord(t, f[0], f[1], f[2])
	}
	return api
}

// foreignRecords: of a zone, only the A records of the one name are seen,
// and all others are there as before after a life of some of ours.
func foreignRecords(t *testing.T, checker *checker) {
	api := zone(t)
	cloud := checker.open(t, api, asIs)
	before := api.Zone(t)
	for _, name := range []string{"www.example.com", "new.example.com"} {
		if records, err := cloud.Records(t.Context(), name); err != nil || len(records) != 0 {
			t.Fatalf("%s: %v, %v", name, records, err)
		}
		for i := range 3 {
			if err := cloud.AddRecord(t.Context(), name, ip(1+i), time.Minute); err != nil {
				t.Fatal(err)
			}
		}
		records, err := cloud.Records(t.Context(), name)
		if err != nil || len(records) != 3 {
			t.Fatalf("%s: %v, %v", name, records, err)
		}
		for _, r := range records {
			if r.Name != name || r.TTL != time.Minute {
				t.Errorf("%+v", r)
			}
			if err := cloud.RemoveRecord(t.Context(), r.ID); err != nil {
				t.Error(err)
			}
		}
	}
	if after := api.Zone(t); !slices.Equal(after, before) {
		t.Errorf("the zone has %v, had %v", after, before)
	}
}

// TestFilterIsNotTrusted: an API that ignores what it was asked for does not
// make other records ours.
func TestFilterIsNotTrusted(t *testing.T) {
	const body = `{"domain_records":[` +
		`{"id":1,"type":"A","name":"www","data":"203.0.113.1","ttl":60},` +
		`{"id":2,"type":"A","name":"www2","data":"203.0.113.2","ttl":60},` +
		`{"id":3,"type":"CNAME","name":"www","data":"@","ttl":60},` +
		`{"id":4,"type":"AAAA","name":"www","data":"2001:db8::1","ttl":60},` +
		`{"id":5,"type":"A","name":"@","data":"203.0.113.5","ttl":60},` +
		`{"id":6,"type":"A","name":"WWW","data":"203.0.113.6","ttl":60}],"meta":{"total":6},"links":{}}`
	api := account(t)
	api.Fail("GET /v2/domains/{zone}/records", apitest.Fault{Body: body})
	cloud := open(t, settings(api))
	for name, want := range map[string]string{"www.example.com": "[1 6]", "WWW.Example.com": "[1 6]", "example.com": "[5]", "w.example.com": "[]"} {
		records, err := cloud.Records(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		ids := []string{}
		for _, r := range records {
			ids = append(ids, r.ID)
		}
		if fmt.Sprint(ids) != want {
			t.Errorf("%s: %v, want %s", name, ids, want)
		}
	}
}

// TestRecordsThatAreNone: half a record is an error, not one record less.
func TestRecordsThatAreNone(t *testing.T) {
	for name, record := range map[string]string{
		"no id":            `{"type":"A","name":"www","data":"203.0.113.1","ttl":60}`,
		"no address":       `{"id":1,"type":"A","name":"www","ttl":60}`,
		"another's format": `{"id":1,"type":"A","name":"www","data":"2001:db8::1","ttl":60}`,
		"nonsense":         `{"id":1,"type":"A","name":"www","data":"www","ttl":60}`,
	} {
		t.Run(name, func(t *testing.T) {
			api := account(t)
			api.Fail("GET /v2/domains/{zone}/records", apitest.Fault{Body: `{"domain_records":[` + record + `],"meta":{"total":1}}`})
			records, err := open(t, settings(api)).Records(t.Context(), "www.example.com")
			wantKind(t, err, provider.ErrTemporary, api.Token)
			if records != nil {
				t.Errorf("returned %v along with it", records)
			}
		})
	}
}

// addedRecord is what the zone then has.
func addedRecord(t *testing.T, checker *checker) {
	for name, c := range map[string]struct {
		name    string
		address string
		ttl     time.Duration
		want    string // in the zone
		wantTTL time.Duration
		says    string // or this error
	}{
		"a name in the zone":     {"www.example.com", "203.0.113.1", time.Minute, "A www 203.0.113.1", time.Minute, ""},
		"a deeper name":          {"a.www.example.com", "203.0.113.1", time.Hour, "A a.www 203.0.113.1", time.Hour, ""},
		"the zone itself":        {"example.com", "203.0.113.1", time.Minute, "A @ 203.0.113.1", time.Minute, ""},
		"in capitals":            {"WWW.Example.COM", "203.0.113.1", time.Minute, "A www 203.0.113.1", time.Minute, ""},
		"the least TTL":          {"www.example.com", "203.0.113.1", time.Second, "A www 203.0.113.1", 30 * time.Second, ""},
		"IPv4 in IPv6's clothes": {"www.example.com", "::ffff:203.0.113.1", time.Minute, "A www 203.0.113.1", time.Minute, ""},
		"IPv6":                   {"www.example.com", "2001:db8::1", time.Minute, "", 0, "wants an IPv4 address"},
		"another zone":           {"www.example.org", "203.0.113.1", time.Minute, "", 0, "not in the domain example.com"},
		"a zone that ends like":  {"wwwexample.com", "203.0.113.1", time.Minute, "", 0, "not in the domain example.com"},
		"no label":               {".example.com", "203.0.113.1", time.Minute, "", 0, "not in the domain example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			api := account(t)
			cloud := checker.open(t, api, asIs)
			err := cloud.AddRecord(t.Context(), c.name, netip.MustParseAddr(c.address), c.ttl)
			if c.says != "" {
				wantKind(t, err, nil, api.Token)
				if !strings.Contains(fmt.Sprint(err), c.says) || len(api.Requests()) != 0 {
					t.Errorf("want %q: %v, and %v", c.says, err, api.Requests())
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := api.Zone(t); !slices.Equal(got, []string{c.want}) {
				t.Errorf("the zone has %v, want %s", got, c.want)
			}
			records, err := cloud.Records(t.Context(), strings.ToLower(c.name))
			if err != nil || len(records) != 1 || records[0].TTL != c.wantTTL {
				t.Errorf("%+v, %v, want TTL %v", records, err, c.wantTTL)
			}
		})
	}
}

// addedAtOnce: who looks and who adds do not come between each other.
func addedAtOnce(t *testing.T, checker *checker) {
	api := account(t)
	cloud := checker.open(t, api, asIs)
	const n = 8
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- cloud.AddRecord(t.Context(), "www.example.com", ip(1+i%2), time.Minute) }()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	got := api.Zone(t)
	slices.Sort(got)
	if want := []string{"A www 203.0.113.1", "A www 203.0.113.2"}; !slices.Equal(got, want) {
		t.Errorf("the zone has %v, want %v", got, want)
	}
}

// missingZone: the message is about the domain, and nobody takes it for a
// record that is gone.
func missingZone(t *testing.T, checker *checker) {
	api := account(t)
	cloud := checker.open(t, api, func(c *digitalocean.Config) { c.Zone = "example.org" })
	_, err := cloud.Records(t.Context(), "www.example.org")
	for _, err := range []error{err, cloud.AddRecord(t.Context(), "www.example.org", ip(1), time.Minute)} {
		wantKind(t, err, nil, api.Token)
		if !strings.Contains(fmt.Sprint(err), "the domain example.org is not at DigitalOcean") {
			t.Error(err)
		}
	}
}

// TestStrangeIDs are those of another vendor: what they name is not here, and
// nobody is asked.
func TestStrangeIDs(t *testing.T) {
	api := account(t)
	cloud := open(t, settings(api))
	for _, id := range []string{"", "0", "-1", "ws-1", "1/../2", "i-0123", "99999999999999999999"} {
		wantKind(t, cloud.Destroy(t.Context(), id), provider.ErrNotFound, api.Token)
		wantKind(t, cloud.RemoveRecord(t.Context(), id), provider.ErrNotFound, api.Token)
	}
	if n := api.Requests(); len(n) != 0 {
		t.Errorf("asked %v", n)
	}
}
