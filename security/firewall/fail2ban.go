package firewall

import (
	"fmt"
	"net/netip"
	"strings"
)

// JailPath is the file of the jail below the machine's root. Its name comes late
// in the alphabet, as of several files the last one holds.
const JailPath = "etc/fail2ban/jail.d/zz-adt.local"

// Jail is fail2ban's jail for the SSH port, with the original's numbers: three
// failed logins within ten minutes are an hour outside. Addresses of trusted
// are never banned. Where no log file is kept (authLog is false) it reads the journal.
func Jail(tool string, port int, trusted []netip.Prefix, authLog bool) string {
	ignore := []string{"127.0.0.0/8", "::1"}
	for _, p := range trusted {
		ignore = append(ignore, p.String())
	}
	action, backend := "iptables-multiport", "systemd"
	if tool == "nftables" {
		action = "nftables-multiport"
	}
	if authLog {
		backend = "auto"
	}
	return fmt.Sprintf(`# Made by adt firewall setup; adt firewall reset takes it away.
[sshd]
enabled = true
port = %d
maxretry = 3
findtime = 10m
bantime = 60m
backend = %s
banaction = %s
ignoreip = %s
`, port, backend, action, strings.Join(ignore, " "))
}
