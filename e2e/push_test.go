package e2e

import (
	"crypto"
	"encoding/json"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"adt/datastore/file"
	"adt/provider/machinetest"
)

// Without a shared store, profiles are pushed over SSH to Debian's own sshd on each
// autoscaler; who did not take it is said, and the same command repairs it.
func TestPushOverSSH(t *testing.T) {
	t.Parallel()
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	f := newFleetAt(t, "local", nil)
	data, err := os.ReadFile(f.path("key"))
	f.must(err)
	key, err := ssh.ParseRawPrivateKey(data)
	f.must(err)
	signer, ok := key.(crypto.Signer)
	if !ok {
		t.Fatal("the key signs nothing")
	}
	var machines []*machinetest.Machine
	var addresses []string
	known := ""
	for k := 1; k <= 2; k++ {
		m, d := machinetest.Login(t, fmt.Sprintf("NO-%d-as-lon1-shop-abcd", k), signer, machinetest.Options{})
		machines = append(machines, m)
		addresses = append(addresses, strconv.Quote(m.Address.String()))
		pin, err := os.ReadFile(d.KnownHosts)
		f.must(err)
		known += string(pin)
	}
	f.must(os.WriteFile(f.path("known_hosts"), []byte(known), 0o600))
	f.configure(settings{
		"autoscaler.number": `0`, "autoscaler.count": `2`, "autoscaler.user": strconv.Quote(me.Username),
		"datastore.transport": `"ssh"`, "datastore.addresses": "[" + strings.Join(addresses, ", ") + "]", "datastore.known_hosts": `"~/known_hosts"`,
		"ssh.port": strconv.Itoa(machinetest.SSHPort), "local.ssh_port": strconv.Itoa(machinetest.SSHPort),
	})
	holds := func(k int, want string) {
		t.Helper()
		store, err := file.Open(filepath.Join(machines[k-1].Home, "datastore"))
		f.must(err)
		objects, err := store.List(t.Context(), "www-example-com-scaling-local-lon1", fmt.Sprintf("autoscaler-%d/STATIC_SCALE:", k))
		f.must(err)
		if len(objects) != 1 || !strings.HasSuffix(objects[0].Key, ":"+want) {
			t.Errorf("autoscaler %d holds %v, want %s", k, objects, want)
		}
	}
	r := f.Tick("scale", "--count", "5")
	if !strings.Contains(r.stdout, "autoscaler 1: none → 3") || !strings.Contains(r.stdout, "autoscaler 2: none → 2") {
		t.Error(r)
	}
	holds(1, "3")
	holds(2, "2")

	// One is away, or is not who it was: the other takes its share.
	for behaviour, why := range map[machinetest.Behaviour]string{machinetest.Closes: "does not answer", machinetest.OtherKey: "host key"} {
		f.must(machines[1].SSH(behaviour))
		r = f.Exits(1, "scale", "--count", "8", "--json")
		var told struct {
			Autoscalers []struct {
				Autoscaler, After int
				Error             string
			}
		}
		f.must(json.Unmarshal([]byte(r.stdout), &told))
		shares := told.Autoscalers
		if len(shares) != 2 || shares[0].Error != "" || !strings.Contains(shares[1].Error, why) || !strings.Contains(r.stderr, "autoscaler 2 was not told") {
			t.Error(r)
		}
		holds(1, "4")
		holds(2, "2")
	}
	f.must(machines[1].SSH(machinetest.Right))
	f.Tick("scale", "--count", "8")
	holds(2, "4")

	// Who answers lives, whatever the provider lists.
	f.Foreign("NO-1-as-lon1-shop-aaaa")
	f.Tick("scale", "--count", "6")
	holds(1, "3")
	holds(2, "3")
}
