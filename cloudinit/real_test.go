package cloudinit

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// program returns the path of a program of Debian's package cloud-init or of
// what that needs. Without it the test is left out, unless ADT_REQUIRE has
// cloud-init.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if slices.Contains(strings.Split(os.Getenv("ADT_REQUIRE"), ","), "cloud-init") {
		t.Fatal("ADT_REQUIRE has cloud-init: ", err)
	}
	t.Skipf("LEFT OUT: user data is not shown to the real cloud-init: %v (apt-get install --no-install-recommends cloud-init)", err)
	return ""
}

// The real cloud-init finds nothing wrong with what the templates make.
func TestRealCloudInit(t *testing.T) {
	cloudInit := program(t, "cloud-init")
	for _, name := range Names(nil) {
		t.Run(name, func(t *testing.T) {
			data, _ := rendered(t, name, full(t, name))
			file := filepath.Join(t.TempDir(), "user-data")
			if err := os.WriteFile(file, []byte(data), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(cloudInit, "schema", "--config-file", file).CombinedOutput()
			if err != nil || bytes.Contains(out, []byte("Invalid")) {
				t.Errorf("%v: %s\n%s", err, out, data)
			}
		})
	}
}

// reader is what cloud-init does with user data, as far as we care: the YAML
// library of Python, and its own of encodings.
const reader = `
import base64, gzip, json, sys, yaml
out = []
for text in json.load(sys.stdin):
    doc = yaml.safe_load(text)
    files = {}
    for f in doc.get("write_files", []):
        content = f["content"]
        if f.get("encoding") == "gz+b64":
            content = gzip.decompress(base64.b64decode(content))
        else:
            content = content.encode()
        files[f["path"]] = base64.b64encode(content).decode()
    user = doc["users"][0]
    out.append({"Hostname": doc["hostname"], "User": user["name"], "AuthorizedKeys": user["ssh_authorized_keys"],
        "HostKeyPrivate": doc["ssh_keys"]["ed25519_private"], "HostKeyPublic": doc["ssh_keys"]["ed25519_public"],
        "PasswordHash": user["hashed_passwd"], "TimeZone": doc["timezone"], "Packages": doc["packages"], "Files": files})
json.dump(out, sys.stdout)
`

// What we write and read back with one YAML library, cloud-init reads with
// another: both must see the same.
func TestRealYAMLReader(t *testing.T) {
	program(t, "cloud-init") // brings Python and its YAML library
	python := program(t, "python3")
	tmpl, err := Builtin("plain")
	if err != nil {
		t.Fatal(err)
	}
	type read struct {
		Webserver
		Files map[string][]byte
	}
	var documents []string
	var want []read
	base := full(t, "plain")
	line := rapid.OneOf(rapid.StringMatching(`[ -~]{1,30}`), rapid.StringMatching(`\PC{1,20}`))
	rapid.Check(t, func(t *rapid.T) {
		w := base
		w.User, w.Hostname, w.PasswordHash = line.Draw(t, "user"), line.Draw(t, "hostname"), line.Draw(t, "hash")
		w.AuthorizedKeys = rapid.SliceOfN(line, 1, 3).Draw(t, "keys")
		w.Run = rapid.SliceOfN(line, 0, 3).Draw(t, "run")
		w.Packages = nil
		content := rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.StringMatching(`([ -~\té]{0,12}\n){1,5}`), func(s string) []byte { return []byte(s) }))
		w.Site = map[string][]byte{"index.html": content.Draw(t, "site"), "a": content.Draw(t, "more")}
		data, err := tmpl.Render(w)
		if err != nil {
			t.Skip(err)
		}
		documents = append(documents, string(data))
		want = append(want, read{w, w.Site})
	})
	input, err := json.Marshal(documents)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", reader)
	cmd.Stdin = bytes.NewReader(input)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	var got []read
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(want) || len(got) < 10 { // go test -short draws 20
		t.Fatalf("%d of %d read", len(got), len(want))
	}
	for i := range got {
		for path, content := range want[i].Site {
			if !bytes.Equal(got[i].Files["/var/www/html/"+path], content) {
				t.Errorf("%s: %q, want %q in\n%s", path, got[i].Files["/var/www/html/"+path], content, documents[i])
			}
		}
		g, w := got[i].Webserver, want[i].Webserver
		g.Packages, w.Site, w.Run, w.SSHPort = nil, nil, nil, 0
		if diff := cmp.Diff(w, g); diff != "" {
			t.Errorf("%s in\n%s", diff, documents[i])
		}
	}
}
