package e2e

import (
	"fmt"
	"maps"
	"os/user"
	"slices"
	"strings"
	"testing"

	"adt/provider/machinetest"
)

// TestDroplets builds, checks, replaces and shrinks a fleet of Debian's own
// sshd and nginx at a fake DigitalOcean, in the phases and with the commands of
// the original: sudo asks for its password.
func TestDroplets(t *testing.T) {
	const password, applicationConfig = "the-password-of-the-server-user", "www/wp-config.php"
	cloud := machinetest.New(t, machinetest.Options{SudoPassword: password, ApplicationConfig: applicationConfig})
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	f := newFleetAt(t, "local", nil)
	f.openAccount(cloud)
	f.account["ssh.port"], f.account["https.port"] = fmt.Sprint(machinetest.SSHPort), fmt.Sprint(machinetest.HTTPSPort)
	f.configure(settings{
		"autoscaler.user": fmt.Sprintf("%q", me.Username), "ssh.sudo_password": fmt.Sprintf("%q", password),
		"build.application_config": fmt.Sprintf("%q", applicationConfig), "ssh.connect_timeout": `"20s"`,
		"healthcheck.deadline": `"30s"`, "scale.budget": `"50s"`, "provider.adopt": `false`,
	})
	arguments := f.watchArguments()
	published := func() []string {
		var all []string
		for _, r := range f.api.Zone(t) {
			all = append(all, strings.TrimPrefix(r, "A www "))
		}
		slices.Sort(all)
		return all
	}
	serving := func() []string {
		var all []string
		for _, name := range cloud.Names() {
			all = append(all, cloud.Machine(name).Address.String())
		}
		slices.Sort(all)
		return all
	}
	f.Tick("scale", "--count", "2")
	f.Tick("scale")
	if len(cloud.Names()) != 2 || !slices.Equal(published(), serving()) {
		t.Fatalf("%v serve, %v are in DNS\n%s", serving(), published(), f.Story())
	}
	for _, name := range cloud.Names() {
		if n := cloud.Machine(name).Connections(); n != 1 {
			t.Errorf("%d SSH connections to build %s", n, name)
		}
	}
	before := cloud.Names()
	f.Tick("scale")
	f.Tick("healthcheck")
	f.Run("reboot-if-done")
	if after := cloud.Names(); !slices.Equal(before, after) {
		t.Fatalf("%v, before %v\n%s", after, before, f.Story())
	}

	sick := cloud.Machine(before[0])
	f.must(sick.HTTPS(500))
	for range 2 { // two strikes
		f.Run("healthcheck")
	}
	f.Tick("scale")
	f.Run("healthcheck")
	if names := cloud.Names(); slices.Contains(names, sick.Name) || len(names) != 2 || !slices.Equal(published(), serving()) {
		t.Fatalf("%v, %v serve, %v are in DNS; %s was sick\n%s", names, serving(), published(), sick.Name, f.Story())
	}
	f.Run("reboot-if-done")
	f.Tick("scale", "--count", "1")
	f.Tick("scale")
	if names := cloud.Names(); len(names) != 1 || !slices.Equal(published(), serving()) {
		t.Fatalf("%v, %v are in DNS\n%s", names, published(), f.Story())
	}
	seen := arguments()
	if !strings.Contains(seen, "InitialiseConfigurationByApplication.sh") {
		t.Error("nothing was looked at")
	}
	if strings.Contains(seen, password) {
		t.Error("the sudo password was in an argument list")
	}
	if n := f.api.Requests()["POST /v2/droplets"]; n != 3 {
		t.Errorf("%d creates: %v", n, slices.Sorted(maps.Keys(f.api.Requests())))
	}
}
