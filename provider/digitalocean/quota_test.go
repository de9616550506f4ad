package digitalocean_test

import (
	"strings"
	"sync"
	"testing"

	"adt/provider/apitest"
	"adt/provider/digitalocean"
)

func quotaNotedOnce(t *testing.T, checker *checker) {
	api := account(t)
	var notes []string
	cloud := checker.open(t, api, func(c *digitalocean.Config) {
		c.QuotaReserve = 100
		c.Note = func(text string) { notes = append(notes, text) }
	})
	list := func() {
		t.Helper()
		if _, err := cloud.List(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if left, known := cloud.Quota(); known {
		t.Errorf("%d are left before anybody said so", left)
	}
	api.SetQuota(102)
	for _, want := range []struct{ left, notes int }{{101, 0}, {100, 0}, {99, 1}, {98, 1}} {
		list()
		if left, known := cloud.Quota(); left != want.left || !known || len(notes) != want.notes {
			t.Errorf("%d left (%v), noted %q, want %+v", left, known, notes, want)
		}
	}
	if len(notes) != 1 || !strings.Contains(notes[0], "99 API requests left") || !strings.Contains(notes[0], "reserve of 100") {
		t.Errorf("noted %q", notes)
	}
}

// TestQuotaOfRefusals: an answer that says no counts too, and one without
// figures changes nothing.
func TestQuotaOfRefusals(t *testing.T) {
	api := account(t)
	cloud := open(t, settings(api))
	api.SetQuota(1)
	api.Fail("GET /v2/droplets", apitest.Fault{Status: 429, Times: 1})
	api.Fail("GET /v2/droplets", apitest.Fault{Status: 429, Header: map[string][]string{"RateLimit-Remaining": nil}})
	for range 2 {
		if _, err := cloud.List(t.Context()); err == nil {
			t.Error("no error")
		}
		if left, known := cloud.Quota(); left != 0 || !known {
			t.Errorf("%d left (%v)", left, known)
		}
	}
}

// TestQuotaAtOnce: it is noted once also when many answers say it.
func TestQuotaAtOnce(t *testing.T) {
	api := account(t)
	api.SetQuota(50)
	var mu sync.Mutex
	var notes []string
	config := settings(api)
	config.QuotaReserve = 100
	config.Note = func(text string) {
		mu.Lock()
		defer mu.Unlock()
		notes = append(notes, text)
	}
	cloud := open(t, config)
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { _, _ = cloud.List(t.Context()) })
	}
	wg.Wait()
	if len(notes) != 1 {
		t.Errorf("noted %q", notes)
	}
}

func TestOpen(t *testing.T) {
	for name, c := range map[string]struct {
		config digitalocean.Config
		says   string
	}{
		"no token":    {digitalocean.Config{}, "digitalocean: no API token"},
		"no address":  {digitalocean.Config{Token: "secret-token", APIURL: "http://[::1"}, "digitalocean: the API's address"},
		"the vendor":  {digitalocean.Config{Token: "secret-token"}, ""},
		"an own path": {digitalocean.Config{Token: "secret-token", APIURL: "https://proxy.example.com/do"}, ""},
	} {
		_, err := digitalocean.Open(c.config)
		switch {
		case c.says == "":
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		case err == nil || !strings.HasPrefix(err.Error(), c.says) || strings.Contains(err.Error(), "secret-token"):
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}
