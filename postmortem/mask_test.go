package postmortem

import (
	"strings"
	"testing"
)

func TestMask(t *testing.T) {
	a := Archive{Secrets: func() []string { return []string{"hunter2", "hunter2hunter2", "ab"} }}
	const key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n-----END OPENSSH PRIVATE KEY-----"
	for name, row := range map[string]struct{ text, want string }{
		"nothing":             {"nginx: bind() failed (98)\nab\n", "nginx: bind() failed (98)\nab\n"},
		"a known secret":      {"su hunter2 x\n", "su *** x\n"},
		"the longer first":    {"hunter2hunter2", "***"},
		"a key":               {"a\n" + key + "\nb", "a\n***\nb"},
		"a key cut off below": {"a\n" + key[:60], "a\n***"},
		"a key cut off above": {key[40:] + "\nb", "***\nb"},
		"a crypt hash":        {"passwd: $6$rounds=4096$salt$abc.def/GHI:x", "passwd: ***"},
		"an address":          {"git clone https://me:p4ss@example.com/x.git", "git clone https://me:***@example.com/x.git"},
		"a header":            {"Authorization: Bearer dop_v1_abc", "Authorization: Bearer ***"},
		"a setting":           {"DBPASSWORD:geheim\nPORT:22", "DBPASSWORD:***\nPORT:22"},
		"in quotes":           {`export S3_SECRET_KEY="two words" x`, "export S3_SECRET_KEY=*** x"},
		"in YAML":             {"    api_token: abc # mine", "    api_token: *** # mine"},
		"a word alone":        {"the password is asked for", "the password is asked for"},
	} {
		if got := string(a.mask([]byte(row.text))); got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}

// The server is asked for names of processes and never for their arguments, where
// passwords may be, nor for its user data.
func TestNothingSecretIsAskedFor(t *testing.T) {
	a := Archive{Limit: 100, Files: []string{"/var/log/x.log"}}
	for _, w := range a.wanted(true) {
		for _, bad := range []string{"args", "cmd,", "aux", "-ef", "user-data", "/var/lib/cloud", "environ"} {
			if strings.Contains(w.command, bad) {
				t.Errorf("%s: %s has %s", w.file, w.command, bad)
			}
		}
	}
}
