package cron

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// bare makes a machine of this one, in a mount namespace of its own: its /etc is a
// copy, its homes, its own programs and its crontabs are empty.
const bare = `
cd "$1"
mkdir home local spool root
cp -a /etc etc
rm -rf etc/cron.d && mkdir etc/cron.d && : >etc/crontab
mount --bind etc /etc
mount --bind home /home
mount --bind local /usr/local/bin
mount --bind spool /var/spool/cron
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
adt=$1/adt
say() { echo "== $*"; }

say dry; "$adt" install --dry-run
say clean; ls -A /home /usr/local/bin /etc/cron.d
say first; "$adt" install
say made; stat -c '%a %U %n' /home/agile/adt.toml /home/agile/runtime /home/agile/logs /home/agile/.ssh /usr/local/bin/adt
printf '[autoscaler]\nnumber = 1\nregion = "lon1"\nbuild = "shop"\n[website]\nurl = "www.example.com"\n' >/home/agile/adt.toml
say second; adt install || echo "exit $?"
say key; stat -c '%a %U %n' /home/agile/.ssh/id_*; ssh-keygen -l -f /home/agile/.ssh/id_ed25519_AGILE_DEPLOYMENT_BUILD_KEY_shop
say lines; grep -c adt /etc/cron.d/adt; stat -c '%a %U %n' /etc/cron.d/adt
say third; adt install || echo "exit $?"
say scale; HOME=/home/agile adt scale --count 0
say uninstall; adt uninstall || echo "exit $?"
say left; ls -A /usr/local/bin /etc/cron.d
say home; ls /home/agile
`

// TestInstallAMachine is adt install with the real useradd, passwd and ssh-keygen, on a
// machine whose files are copies.
func TestInstallAMachine(t *testing.T) {
	needs(t)
	t.Parallel()
	folder := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(folder, "adt"), "adt")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "unshare", "--mount", "sh", "-euc", bare, "sh", folder).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	parts := map[string]string{}
	for _, part := range strings.Split(string(out), "== ")[1:] {
		name, text, _ := strings.Cut(part, "\n")
		parts[name] = text
	}
	for name, wants := range map[string][]string{
		"dry":       {"to do   user       agile, at home in /home/agile", "later   cron"},
		"first":     {"done    program    /usr/local/bin/adt", "done    user", "done    folders", "done    adt.toml", "later   cron"},
		"made":      {"600 agile /home/agile/adt.toml", "700 agile /home/agile/runtime", "700 agile /home/agile/logs", "700 agile /home/agile/.ssh", "755 root /usr/local/bin/adt"},
		"second":    {"there   user", "done    build key", "+ * * * * * root /usr/local/bin/adt scale"},
		"key":       {"600 agile /home/agile/.ssh/id_ed25519_AGILE_DEPLOYMENT_BUILD_KEY_shop\n", "(ED25519)"},
		"lines":     {"644 root /etc/cron.d/adt"},
		"third":     {"there   program", "there   build key", "/etc/cron.d/adt has adt's lines already"},
		"scale":     {"autoscaler 1: none → 0"},
		"uninstall": {"removed: /usr/local/bin/adt", "kept: the user agile"},
		"home":      {"adt.toml", "runtime"},
	} {
		for _, want := range wants {
			if !strings.Contains(parts[name], want) {
				t.Errorf("%s lacks %q:\n%s", name, want, parts[name])
			}
		}
	}
	if strings.Contains(parts["clean"], "agile") || strings.Contains(parts["clean"], "adt") || strings.Contains(parts["left"], "adt") {
		t.Errorf("a dry run made %s, and left is %s", parts["clean"], parts["left"])
	}
	if after, err := os.ReadFile("/etc/passwd"); err != nil || string(after) != string(before) {
		t.Errorf("this machine's own users were changed: %v", err)
	}
}
