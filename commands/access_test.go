package commands

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"adt/autoscaler"
)

func TestChoose(t *testing.T) {
	address := netip.MustParseAddr
	all := []target{{name: "ws-a", number: 1, private: address("10.0.0.1")}, {name: "ws-b", number: 2, private: address("10.0.0.10")}, {name: "ws-c", number: 4}}
	for said, want := range map[string]string{"ws-b": "ws-b", "1": "ws-a", "4": "ws-c", "10.0.0.1": "ws-a", "10.0.0.10": "ws-b"} {
		if got, err := choose(autoscaler.RoleWebserver, all, said); err != nil || got.name != want {
			t.Errorf("%q: %s, %v; want %s", said, got.name, err, want)
		}
	}
	for _, said := range []string{"3", "0", "-1", "ws", "ws-bb", "10.0.0", "invalid IP"} {
		if got, err := choose(autoscaler.RoleWebserver, all, said); err == nil || !strings.Contains(err.Error(), said) {
			t.Errorf("%q: %s, %v", said, got.name, err)
		}
	}
	if _, err := choose(autoscaler.RoleWebserver, all, ""); !errors.Is(err, errSeveral) {
		t.Errorf("of three: %v", err)
	}
	if got, err := choose(autoscaler.RoleWebserver, all[1:2], ""); err != nil || got.name != "ws-b" {
		t.Errorf("of one: %v, %v", got, err)
	}
	if _, err := choose(autoscaler.RoleProxy, nil, ""); err == nil || !strings.Contains(err.Error(), "proxy") {
		t.Errorf("of none: %v", err)
	}
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	l := lines{mu: new(sync.Mutex), to: &out, prefix: "a | "}
	for _, piece := range []string{"one\ntw", "o", "\n\nthr", "ee"} {
		if n, err := l.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	if got := out.String(); got != "a | one\na | two\na | \n" {
		t.Errorf("%q", got)
	}
	if err := errors.Join(l.flush(), l.flush()); err != nil || !strings.HasSuffix(out.String(), "\na | three\n") {
		t.Errorf("%q, %v", out.String(), err)
	}
	out.Reset()
	if _, err := l.Write(bytes.Repeat([]byte("x"), longestLine*2+5)); err != nil {
		t.Fatal(err)
	}
	if err := l.flush(); err != nil || strings.Count(out.String(), "\n") != 3 || strings.Count(out.String(), "x") != longestLine*2+5 {
		t.Errorf("%d lines, %v", strings.Count(out.String(), "\n"), err)
	}
}

// Lines of many writers are whole, however they come.
func TestLinesOfMany(t *testing.T) {
	var out bytes.Buffer
	var mu sync.Mutex
	var wg sync.WaitGroup
	const writers, each = 8, 200
	for w := range writers {
		l := &lines{mu: &mu, to: &out, prefix: fmt.Sprint(w, " | ")}
		wg.Go(func() {
			for range each {
				for _, piece := range []string{strings.Repeat(fmt.Sprint(w), 10), strings.Repeat(fmt.Sprint(w), 10) + "\n"} {
					_, _ = l.Write([]byte(piece))
				}
			}
		})
	}
	wg.Wait()
	n := 0
	for line := range strings.Lines(out.String()) {
		n++
		if line != line[:1]+" | "+strings.Repeat(line[:1], 20)+"\n" {
			t.Fatalf("torn: %q", line)
		}
	}
	if n != writers*each {
		t.Errorf("%d lines", n)
	}
}

func TestKept(t *testing.T) {
	var k kept
	for range 3 {
		if n, err := k.Write(make([]byte, mostKept/2)); n != mostKept/2 || err != nil {
			t.Fatal(n, err)
		}
	}
	if k.Len() != mostKept || !k.cut {
		t.Errorf("%d bytes, cut %v", k.Len(), k.cut)
	}
}
