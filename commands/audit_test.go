package commands

import (
	"net/netip"
	"testing"
	"time"

	"adt/security/logins"
)

func TestNews(t *testing.T) {
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	login := func(from string) logins.Login {
		return logins.Login{User: "agile", From: netip.MustParseAddr(from), Time: now.Add(-time.Hour)}
	}
	all := []logins.Login{
		login("10.0.0.7"), login("192.0.2.1"), login("192.0.2.2"), login("192.0.2.1"), login("127.0.0.1"), login("::1"),
		login("2001:db8::1"), login("192.0.2.3"), {User: "root", From: netip.MustParseAddr("192.0.2.4")},
	}
	seen := addresses("192.0.2.2\nSSH connection first initiated at Wed Nov 25 02:28:18 UTC 2026 from IP address 192.0.2.3\nnot one: 300.1.1.1")
	rows := news(all, seen, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/16")}, now)
	want := []string{"192.0.2.1", "2001:db8::1", "192.0.2.4"}
	if len(rows) != len(want) {
		t.Fatalf("%v", rows)
	}
	for i, row := range rows {
		if row.Address.String() != want[i] || row.Time.IsZero() {
			t.Errorf("%v, want %s", row, want[i])
		}
	}
}
