package postmortem

import (
	"bytes"
	"regexp"
	"slices"
)

// shortest is the least length of a secret that is masked as such: what is
// shorter is found in half of all words.
const shortest = 6

// patterns are what a secret looks like that nobody told us: private keys, crypt
// hashes, passwords in addresses, and what follows a word such as password.
func patterns() []struct {
	find *regexp.Regexp
	with string
} {
	type row = struct {
		find *regexp.Regexp
		with string
	}
	return []row{
		{regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)`), "***"},
		// The log's first line may be the middle of one.
		{regexp.MustCompile(`(?s)\A[A-Za-z0-9+/=\s]*-----END [A-Z ]*PRIVATE KEY-----`), "***"},
		{regexp.MustCompile(`\$(?:1|2[aby]|5|6|y|gy|7)\$[./A-Za-z0-9,=$]+`), "***"},
		{regexp.MustCompile(`(://[^/\s:@]*:)[^/\s@]+@`), "${1}***@"},
		{regexp.MustCompile(`(?i)(authorization:\s*(?:basic|bearer|token)\s+)\S+`), "${1}***"},
		{regexp.MustCompile(`(?i)([a-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret|token|api_?key|access_?key|private_?key|credentials?)[a-z0-9_.-]*["']?\s*[:=]+\s*)("[^"\n]*"|'[^'\n]*'|[^\s,;}]+)`), "${1}***"},
	}
}

// mask replaces what must not be kept of a server's own words.
func (a *Archive) mask(text []byte) []byte {
	text = a.maskKnown(text)
	for _, p := range patterns() {
		text = p.find.ReplaceAll(text, []byte(p.with))
	}
	return text
}

// maskKnown replaces the secrets that we know. It is enough for what adt itself
// has written, and leaves JSON whole.
func (a *Archive) maskKnown(text []byte) []byte {
	if a.Secrets == nil {
		return text
	}
	secrets := slices.Clone(a.Secrets())
	slices.SortFunc(secrets, func(x, y string) int { return len(y) - len(x) }) // one may be part of another
	for _, s := range secrets {
		if len(s) >= shortest {
			text = bytes.ReplaceAll(text, []byte(s), []byte("***"))
		}
	}
	return text
}
