package digitaloceantest_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"adt/provider/apitest"
	"adt/provider/digitaloceantest"
	"adt/provider/providertest"
)

// account has one of everything.
type account struct {
	*digitaloceantest.Server
	key, snapshot          int
	vpc, firewall, droplet string
}

func newAccount(t *testing.T) account {
	t.Helper()
	api := digitaloceantest.New(t, digitaloceantest.Options{})
	a := account{Server: api}
	a.key, a.snapshot = api.AddKey("build key"), api.AddSnapshot("webserver")
	a.vpc, a.firewall = api.AddVPC("net", "lon1"), api.AddFirewall("adt-webserver-b1")
	a.droplet = api.AddDroplet(t, "db-1", "database")
	for _, r := range [][3]string{{"A", "@", "203.0.113.1"}, {"CNAME", "api", "www.example.com."}, {"MX", "@", "mail.example.com."}} {
		api.AddRecord(t, r[0], r[1], r[2])
	}
	return a
}

// request is one to an operation, and the status of its answer.
type request struct {
	method, path, body string
	want               int
}

// requests are those that the API can be asked, in an order in which each finds
// what it needs. With the account's own ids the last ones destroy.
func (a account) requests() []request {
	order := func(image string) string {
		return fmt.Sprintf(`{"name":"ws-1","region":"lon1","size":"s-1vcpu-1gb","image":%s,"ssh_keys":[%d],"vpc_uuid":%q,"tags":["adt"],"user_data":"#"}`, image, a.key, a.vpc)
	}
	attach := func(droplet string) string { return `{"droplet_ids":[` + droplet + `]}` }
	return []request{
		{"GET", "/v2/account", "", 200},
		{"GET", "/v2/account/keys?per_page=200", "", 200},
		{"GET", "/v2/vpcs", "", 200},
		{"GET", "/v2/images?private=true", "", 200},
		{"GET", "/v2/images?per_page=1&page=2", "", 200},
		{"GET", "/v2/images/debian-13-x64", "", 200},
		{"GET", "/v2/images/" + strconv.Itoa(a.snapshot), "", 200},
		{"GET", "/v2/images/1", "", 404},
		{"GET", "/v2/sizes?per_page=2", "", 200},
		{"GET", "/v2/regions", "", 200},
		{"GET", "/v2/firewalls", "", 200},
		{"GET", "/v2/firewalls/" + a.firewall, "", 200},
		{"POST", "/v2/firewalls/" + a.firewall + "/droplets", attach(a.droplet), 204},
		{"GET", "/v2/firewalls/" + a.firewall, "", 200},
		{"POST", "/v2/firewalls/" + a.firewall + "/droplets", attach("1"), 422},
		{"POST", "/v2/firewalls/" + a.vpc + "/droplets", attach(a.droplet), 404},
		{"POST", "/v2/droplets", order(`"debian-13-x64"`), 202},
		{"POST", "/v2/droplets", order(strconv.Itoa(a.snapshot)), 202},
		{"POST", "/v2/droplets", order(`"no-such-image"`), 422},
		{"GET", "/v2/droplets", "", 200},
		{"GET", "/v2/droplets?per_page=1&page=2", "", 200}, // without addresses before, with them now
		{"GET", "/v2/droplets?tag_name=adt&per_page=200", "", 200},
		{"GET", "/v2/droplets?tag_name=no-such-tag", "", 200},
		{"GET", "/v2/droplets?name=ws-1", "", 200},
		{"GET", "/v2/droplets/" + a.droplet, "", 200},
		{"GET", "/v2/droplets/1", "", 404},
		{"GET", "/v2/domains", "", 200},
		{"GET", "/v2/domains/example.com", "", 200},
		{"GET", "/v2/domains/example.org", "", 404},
		{"GET", "/v2/domains/example.com/records", "", 200},
		{"GET", "/v2/domains/example.com/records?type=A&name=example.com&per_page=1", "", 200},
		{"GET", "/v2/domains/example.org/records", "", 404},
		{"POST", "/v2/domains/example.com/records", `{"type":"A","name":"www","data":"203.0.113.2","ttl":60}`, 201},
		{"POST", "/v2/domains/example.com/records", `{"type":"A","name":"@","data":"203.0.113.2"}`, 201},
		{"POST", "/v2/domains/example.com/records", `{"type":"A","name":"www","data":"203.0.113.2","ttl":60}`, 201},
		{"POST", "/v2/domains/example.com/records", `{"type":"A","name":"www","data":"203.0.113.2","ttl":1}`, 422},
		{"DELETE", "/v2/domains/example.com/records/1", "", 404},
		{"DELETE", "/v2/droplets/" + a.droplet, "", 204},
		{"DELETE", "/v2/droplets/" + a.droplet, "", 404},
	}
}

// ask returns the answer's status and body.
func ask(t *testing.T, base, token string, r request) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), r.method, base+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	if r.body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestAnswersAreAsDescribed(t *testing.T) {
	a := newAccount(t)
	checked := providertest.Checked(t, "digitalocean", a.URL)
	for _, r := range a.requests() {
		if status, body := ask(t, checked, a.Token, r); status != r.want {
			t.Errorf("%s %s: %d, want %d: %s", r.method, r.path, status, r.want, body)
		}
	}
}

func TestFaultsAreAsDescribed(t *testing.T) {
	a := newAccount(t)
	checked := providertest.Checked(t, "digitalocean", a.URL)
	for _, r := range a.requests() {
		ask(t, a.URL, a.Token, r)
	}
	operations := a.Requests()
	for _, status := range []int{400, 401, 403, 404, 422, 429, 500, 503} {
		for operation := range operations {
			a.Fail(operation, apitest.Fault{Status: status})
		}
		for _, r := range a.requests() {
			if got, body := ask(t, checked, a.Token, r); got != status || !strings.Contains(body, `"message"`) {
				t.Errorf("%s %s: %d, want %d: %s", r.method, r.path, got, status, body)
			}
		}
		a.Heal()
	}
}

func TestWrongTokenIsRefused(t *testing.T) {
	a := newAccount(t)
	for _, r := range a.requests() {
		if status, _ := ask(t, a.URL, a.Token+"x", r); status != http.StatusUnauthorized {
			t.Errorf("%s %s: %d", r.method, r.path, status)
		}
	}
}

func TestFaultsComeInTurn(t *testing.T) {
	a := newAccount(t)
	const operation = "GET /v2/sizes"
	a.Fail(operation, apitest.Fault{Status: 500, Times: 2})
	a.Fail(operation, apitest.Fault{Status: 429, Times: 1})
	for i, want := range []int{500, 500, 429, 200} {
		if status, _ := ask(t, a.URL, a.Token, request{"GET", "/v2/sizes", "", 0}); status != want {
			t.Errorf("answer %d: %d, want %d", i, status, want)
		}
	}
	if n := a.Requests()[operation]; n != 4 {
		t.Errorf("%d requests counted", n)
	}
}

func TestFaultAfterwards(t *testing.T) {
	a := newAccount(t)
	a.Fail("DELETE /v2/droplets/{id}", apitest.Fault{Status: 500, After: true})
	if status, _ := ask(t, a.URL, a.Token, request{"DELETE", "/v2/droplets/" + a.droplet, "", 0}); status != 500 {
		t.Errorf("status %d", status)
	}
	if names := a.Names(t); len(names) != 0 {
		t.Errorf("still there: %v", names)
	}
}

func TestBodyIsCut(t *testing.T) {
	a := newAccount(t)
	a.Fail("GET /v2/sizes", apitest.Fault{Body: `{"sizes":[`, Cut: true})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, a.URL+"/v2/sizes", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err == nil || string(body) != `{"sizes":[` {
		t.Errorf("%q, %v", body, err)
	}
}
