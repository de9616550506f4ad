package firewall_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"adt/security/firewall"
	"adt/security/netnstest"
)

// The real fail2ban takes the jail, with the original's numbers.
func TestJail(t *testing.T) {
	for _, tool := range firewall.Names() {
		machine, _ := netnstest.New(t, "fail2ban-client")
		path := filepath.Join(machine.Root(), firewall.JailPath)
		if err := os.WriteFile(path, []byte(firewall.Jail(tool, 1035, prefixes("10.77.0.0/24", "fd77::/64"), false)), 0o644); err != nil {
			t.Fatal(err)
		}
		got := machine.Sh("fail2ban-client -d")
		for _, want := range []string{
			"['add', 'sshd', 'systemd']", "['set', 'sshd', 'maxretry', 3]", "['set', 'sshd', 'findtime', '10m']", "['set', 'sshd', 'bantime', '60m']",
			"['set', 'sshd', 'addignoreip', '127.0.0.0/8', '::1', '10.77.0.0/24', 'fd77::/64']", "['port', '1035']", "['start', 'sshd']",
			map[string]string{"nftables": "'nftables-multiport'", "iptables": "'iptables-multiport'", "ufw": "'iptables-multiport'"}[tool],
		} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: fail2ban lacks %s in\n%s", tool, want, got)
			}
		}
	}
	if jail := firewall.Jail("nftables", 22, nil, true); !strings.Contains(jail, "backend = auto\n") {
		t.Error(jail)
	}
}
