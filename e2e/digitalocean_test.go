package e2e

import (
	"maps"
	"testing"
)

// requests is how many of each operation adt's run sent to the vendor.
func (f *fleet) requests(args ...string) map[string]int {
	f.t.Helper()
	before := f.api.Requests()
	f.Tick(args...)
	after := f.api.Requests()
	for operation, n := range before {
		after[operation] -= n
	}
	maps.DeleteFunc(after, func(_ string, n int) bool { return n == 0 })
	return after
}

// TestRequests holds the budget of API requests, of which an account has 5,000
// an hour for all that uses it.
func TestRequests(t *testing.T) {
	t.Parallel()
	f := newFleetAt(t, "digitalocean", settings{"build.poll": `"100ms"`, "autoscaler.max_webservers": `20`, "scale.max_concurrent_creates": `15`})
	f.Tick("scale", "--count", "15")
	t.Log(f.requests("scale"))
	t.Log(f.requests("scale"))
	t.Log(f.requests("scale"))
	t.Log(f.requests("healthcheck"))
	t.Log(f.requests("healthcheck"))
	t.Log(f.requests("reboot-if-done"))
}
