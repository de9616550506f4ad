package cloudinit

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
	"pgregory.net/rapid"
)

func example(t *testing.T) Webserver {
	t.Helper()
	private, public, err := NewHostKey([]byte("0123456789abcdef"), "ws-lon-b1-1-anna-x9Kd")
	if err != nil {
		t.Fatal(err)
	}
	return Webserver{
		Hostname:       "ws-lon-b1-1-anna-x9Kd",
		User:           "anna",
		AuthorizedKeys: []string{"ssh-ed25519 AAAA: build # key", "ssh-ed25519 BBBB"},
		HostKeyPrivate: private,
		HostKeyPublic:  strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))),
	}
}

func TestRenderedIsParsed(t *testing.T) {
	want := example(t)
	data, err := Render(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(data)
	if err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, line := range []string{"#cloud-config", "ssh_deletekeys: true", "  ed25519_private: |", "  sudo: ALL=(ALL) NOPASSWD:ALL"} {
		if !strings.Contains(string(data), line+"\n") {
			t.Errorf("no line %q in\n%s", line, data)
		}
	}
}

// A text that cannot be written is an error, never another text.
func TestRenderedIsParsedForAnyText(t *testing.T) {
	host := example(t)
	rapid.Check(t, func(t *rapid.T) {
		want := host
		want.User = rapid.StringMatching(`[!-~]([ -~]{0,20}[!-~])?`).Draw(t, "user")
		want.AuthorizedKeys = rapid.SliceOfN(rapid.StringMatching(`[!-~]([ -~]{0,40}[!-~])?`), 1, 4).Draw(t, "keys")
		data, err := Render(want)
		if err != nil {
			t.Skip(err)
		}
		got, err := Parse(data)
		if err != nil {
			t.Fatalf("%v in\n%s", err, data)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		ordinary := host
		ordinary.User = rapid.StringMatching(`[a-z_][a-z0-9_-]{0,30}`).Draw(t, "user")
		ordinary.AuthorizedKeys = rapid.SliceOfN(rapid.StringMatching(
			`((from="[0-9.,*!]{1,20}"|no-pty) )?ssh-(ed25519|rsa) [A-Za-z0-9+/]{1,60}={0,2}( [!-~]{1,20})?`), 1, 4).Draw(t, "keys")
		if _, err := Render(ordinary); err != nil {
			t.Fatalf("%v: %+v", err, ordinary)
		}
	})
}

func TestRenderRefusesWhatCannotBeReached(t *testing.T) {
	for name, spoil := range map[string]func(*Webserver){
		"hostname":         func(w *Webserver) { w.Hostname = "" },
		"user":             func(w *Webserver) { w.User = " " },
		"authorised keys":  func(w *Webserver) { w.AuthorizedKeys = []string{""} },
		"private host key": func(w *Webserver) { w.HostKeyPrivate = "" },
		"public host key":  func(w *Webserver) { w.HostKeyPublic = "" },
	} {
		w := example(t)
		spoil(&w)
		if _, err := Render(w); err == nil || !strings.Contains(err.Error(), "no "+name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
}

func TestParse(t *testing.T) {
	for name, text := range map[string]string{"script": "#!/bin/sh\n", "empty": "", "not yaml": "#cloud-config\nusers: [\n"} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	got, err := Parse([]byte("#cloud-config\npackages: [nginx]\nhostname: a\n"))
	if err != nil || got.Hostname != "a" {
		t.Errorf("unknown keys: %+v, %v", got, err)
	}
}

func TestHostKeyRepeats(t *testing.T) {
	seed := []byte("a seed of thirty-two bytes, say.")
	private, first, err := NewHostKey(seed, "a")
	if err != nil {
		t.Fatal(err)
	}
	_, again, _ := NewHostKey(seed, "a")
	_, other, _ := NewHostKey(seed, "b")
	_, elsewhere, _ := NewHostKey([]byte("another seed of enough bytes"), "a")
	if !bytes.Equal(first.Marshal(), again.Marshal()) {
		t.Error("the same seed and name gave two keys")
	}
	for _, different := range []ssh.PublicKey{other, elsewhere} {
		if bytes.Equal(first.Marshal(), different.Marshal()) {
			t.Error("one key for two names or seeds")
		}
	}
	signer, err := ssh.ParsePrivateKey([]byte(private))
	if err != nil || !bytes.Equal(signer.PublicKey().Marshal(), first.Marshal()) {
		t.Errorf("the PEM is not that key: %v", err)
	}
	if _, _, err := NewHostKey(nil, "a"); err == nil {
		t.Error("an empty seed was taken")
	}
}
