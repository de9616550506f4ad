package cloudinit

import (
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// full is a webserver with everything that the template of that name has a
// place for.
func full(t *testing.T, name string) Webserver {
	t.Helper()
	w := example(t)
	w.PasswordHash, w.TimeZone, w.SSHPort = "$6$salt$hash/of.it", "Europe/Berlin", 1035
	if name == "minimal" {
		return w
	}
	w.Run = []string{"echo 'it''s' > /etc/motd", `test "$(id -u)" = 0 && : # "quoted"`}
	if !strings.HasSuffix(name, "-snapshot") {
		w.Packages = []string{"fail2ban", "php-fpm"}
	}
	if strings.HasPrefix(name, "plain") {
		w.Site = map[string][]byte{
			"index.html":     []byte("<p>Grüße\n\n\tand: more # of it\n"),
			"img/pixel.gif":  {'G', 'I', 'F', 0, 0xff},
			"robots.txt":     nil,
			"odd name's.txt": []byte(" begins with a blank\r\n"),
		}
		return w
	}
	w.Settings = map[string][]byte{
		"runtime/webserver_configuration_settings.dat": []byte("WEBSITEURL:www.example.com\nDBPASSWORD:secret-of-it\n"),
		"runtime/buildstyles.dat":                      []byte("BUILD:1\n"),
	}
	w.BuildCommand = "sh build.sh 'one argument'"
	if name == "original" {
		w.RepositoryURL, w.RepositoryBranch = "https://git.example.com/webserver-scripts.git", "main"
	}
	return w
}

func rendered(t *testing.T, name string, w Webserver) (string, map[string]any) {
	t.Helper()
	tmpl, err := Builtin(name)
	if err != nil {
		t.Fatal(err)
	}
	data, err := tmpl.Render(w)
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]any
	if err := yaml.Unmarshal(data, &doc); err != nil {
		t.Fatalf("%v in\n%s", err, data)
	}
	return string(data), doc
}

// lines finds each of the lines in this order.
func lines(t *testing.T, text string, want ...string) {
	t.Helper()
	rest := "\n" + text
	for _, line := range want {
		_, after, found := strings.Cut(rest, "\n"+line+"\n")
		if !found {
			t.Errorf("no line %q, in this order, in\n%s", line, text)
			return
		}
		rest = "\n" + after
	}
}

// script is the shell of a document's runcmd.
func script(t *testing.T, doc map[string]any) string {
	t.Helper()
	commands, ok := doc["runcmd"].([]any)
	if !ok || len(commands) != 1 {
		t.Fatalf("runcmd: %v", doc["runcmd"])
	}
	return commands[0].(string)
}

func TestBuiltinTemplates(t *testing.T) {
	want := []string{"minimal", "original", "original-snapshot", "plain", "plain-snapshot"}
	if got := Names(nil); !slices.Equal(got, want) {
		t.Fatalf("templates %q, want %q", got, want)
	}
	for _, name := range want {
		t.Run(name, func(t *testing.T) {
			w := full(t, name)
			data, doc := rendered(t, name, w)
			first := doc["users"].([]any)[0].(map[string]any)
			if doc["timezone"] != w.TimeZone || first["hashed_passwd"] != w.PasswordHash || first["lock_passwd"] != false || first["sudo"] != "ALL=(ALL) ALL" {
				t.Errorf("time zone %v, user %v", doc["timezone"], first)
			}
			if name == "minimal" {
				return
			}
			if doc["ssh_pwauth"] != false || doc["disable_root"] != true {
				t.Errorf("sshd is not hardened in\n%s", data)
			}
			lines(t, data, "      Port 1035", "      PermitRootLogin no", "      PasswordAuthentication no")
			sh := script(t, doc)
			lines(t, sh, "set -eu", "user='anna'", "ListenStream=0.0.0.0:1035", `sh -c 'echo '\''it'\'''\''s'\'' > /etc/motd'`)
			if out, err := exec.Command("sh", "-n", "-c", sh).CombinedOutput(); err != nil {
				t.Errorf("sh -n: %v: %s\n%s", err, out, sh)
			}
			if _, installs := doc["packages"]; installs == strings.HasSuffix(name, "-snapshot") {
				t.Errorf("packages %v", doc["packages"])
			}
			if _, forgets := doc["bootcmd"]; forgets != strings.HasSuffix(name, "-snapshot") {
				t.Errorf("bootcmd %v", doc["bootcmd"])
			}
		})
	}
}

// What adt waits for comes last, and only from a website that answers.
func TestPlainSaysReadyLast(t *testing.T) {
	for _, name := range []string{"plain", "plain-snapshot"} {
		w := full(t, name)
		w.HTTPSPort, w.HeadFile = 8443, "shop/is up.html"
		data, doc := rendered(t, name, w)
		sh := script(t, doc)
		lines(t, sh, "nginx -t", "systemctl restart nginx", `sh -c 'test "$(id -u)" = 0 && : # "quoted"'`,
			"curl -fsSkI --retry 20 --retry-delay 1 --retry-connrefused 'https://127.0.0.1:8443/shop/is%20up.html'",
			"for marker in WEBSERVER_READY AUTOSCALED_WEBSERVER_ONLINE; do",
			`  install -o "$user" -g "$group" -m 0600 /dev/null "$home/runtime/$marker"`, "done")
		if !strings.HasSuffix(sh, "\ndone\n") {
			t.Errorf("something follows the markers in\n%s", sh)
		}
		lines(t, data, "          return 301 https://$host:8443$request_uri;", "          listen 8443 ssl default_server;",
			"      <p>Grüße", "      \tand: more # of it", `  - path: "/var/www/html/shop/is up.html"`)
	}
}

func TestOriginalClonesAndBuilds(t *testing.T) {
	_, doc := rendered(t, "original", full(t, "original"))
	lines(t, script(t, doc), `chown -R "$user:$group" "$home/runtime"`,
		`git clone --quiet --depth 1 --branch 'main' -- 'https://git.example.com/webserver-scripts.git' "$scripts"`,
		`chown -R "$user:root" "$home"`, `cd "$home"`, `sh -c 'sh build.sh '\''one argument'\'''`)

	_, doc = rendered(t, "original-snapshot", full(t, "original-snapshot"))
	if sh := script(t, doc); strings.Contains(sh, "git ") {
		t.Errorf("a snapshot clones:\n%s", sh)
	}

	w := full(t, "original")
	w.BuildCommand = ""
	_, doc = rendered(t, "original", w)
	lines(t, script(t, doc), "build InstallPackageManager InstallFirewall InstallDatastoreTools",
		"sh ws.sh & # it waits for what is installed meanwhile, and says when the webserver is ready")
	w = full(t, "original-snapshot")
	w.BuildCommand = ""
	_, doc = rendered(t, "original-snapshot", w)
	lines(t, script(t, doc), "sh -c 'sh arch.sh'", `install -o "$user" -g root -m 0600 /dev/null "$home/runtime/WEBSERVER_READY"`)

	w = full(t, "original")
	w.RepositoryURL = ""
	tmpl, _ := Builtin("original")
	if _, err := tmpl.Render(w); err == nil || !strings.Contains(err.Error(), "no repository of the webserver scripts") || !strings.Contains(err.Error(), "original:9:") {
		t.Errorf("without a repository: %v", err)
	}
}

func TestWithoutPasswordSudoAsksForNone(t *testing.T) {
	w := full(t, "plain")
	w.PasswordHash = ""
	_, doc := rendered(t, "plain", w)
	first := doc["users"].([]any)[0].(map[string]any)
	if first["sudo"] != "ALL=(ALL) NOPASSWD:ALL" || first["lock_passwd"] != nil || first["hashed_passwd"] != nil {
		t.Errorf("%v", first)
	}
}

func TestOwnTemplates(t *testing.T) {
	const identity = "#cloud-config\n{{template \"identity\" .}}\n"
	w := example(t)
	w.PasswordHash = "$6$salt$hash-of-the-password"
	minimal, _ := rendered(t, "minimal", w)
	for name, c := range map[string]struct {
		source string
		spoil  func(*Webserver)
		want   string // in the error; "" is none
	}{
		"good":             {source: identity + "packages: [vim]\n"},
		"own packages":     {source: identity + "packages:{{template \"packages\" .}}\n", spoil: func(w *Webserver) { w.Packages = []string{"a", "b"} }},
		"own runcmd":       {source: identity + "runcmd:{{range .Run}}\n  - {{quote .}}{{end}}\n", spoil: func(w *Webserver) { w.Run = []string{"it's"} }},
		"no header":        {source: "hostname: a\n", want: "the first line must be #cloud-config"},
		"syntax":           {source: identity + "{{if}}\n", want: "mine:3: missing value for if"},
		"unknown field":    {source: identity + "{{.Colour}}\n", want: "mine:3:2: executing \"mine\" at <.Colour>: can't evaluate field Colour"},
		"unknown function": {source: identity + "{{colour}}\n", want: `mine:3: function "colour" not defined`},
		"no YAML":          {source: identity + "packages: [vim\n", want: "no valid YAML: line "},
		"twice":            {source: identity + "packages: [a]\npackages: [b]\n", want: `already defined`},
		"two documents":    {source: identity + "---\nhostname: b\n", want: "2 YAML documents, must be one"},
		"a list":           {source: "#cloud-config\n- a\n", want: "no valid YAML: line 2"},
		"no identity":      {source: "#cloud-config\nhostname: {{.Hostname}}\n", want: "the first of users is not the server user"},
		"another host key": {source: strings.Replace(identity, "{{template \"identity\" .}}", "hostname: {{.Hostname}}\nusers: [{name: {{.User}}, ssh_authorized_keys: [{{range .AuthorizedKeys}}{{quote .}},{{end}}]}]\n", 1),
			want: "ssh_keys are not the pinned host key"},
		"image's host keys": {source: strings.Replace(minimal, "deletekeys: true", "deletekeys: false", 1),
			spoil: func(same *Webserver) { *same = w }, want: "ssh_deletekeys must be true"},
		"too long": {source: identity + "# " + strings.Repeat("x", Limit), want: "bytes are too long: at most 65536"},
		"packages passed over": {source: identity, want: "does not install packages (vim)",
			spoil: func(w *Webserver) { w.Packages = []string{"vim"} }},
		"run passed over": {source: identity, want: `its runcmd does not use "true"`,
			spoil: func(w *Webserver) { w.Run = []string{"true"} }},
		"site passed over": {source: identity, want: "does not make /var/www/html/a.html",
			spoil: func(w *Webserver) { w.Site = map[string][]byte{"a.html": nil} }},
		"site changed": {source: identity + "write_files: [{path: /var/www/html/a.html, content: b}]\n", want: "does not make /var/www/html/a.html",
			spoil: func(w *Webserver) { w.Site = map[string][]byte{"a.html": []byte("a")} }},
		"file twice":     {source: identity + "write_files: [{path: /a, content: b}, {path: //a}]\n", want: "write_files has /a twice"},
		"encoding":       {source: identity + "write_files: [{path: /a, encoding: rot13}]\n", want: `write_files, /a: the encoding "rot13" is not known`},
		"outside":        {source: identity, want: `"../etc/passwd" is no path`, spoil: func(w *Webserver) { w.Site = map[string][]byte{"../etc/passwd": nil} }},
		"head file":      {source: identity, want: `"a/../b" is no path`, spoil: func(w *Webserver) { w.HeadFile = "a/../b" }},
		"two keys":       {source: identity, want: "control characters, such as the end of a line, in authorised keys", spoil: func(w *Webserver) { w.AuthorizedKeys[0] += "\nssh-ed25519 CCCC" }},
		"secret in key":  {source: identity + "{{.PasswordHash}}: a\n{{.PasswordHash}}: b\n", want: "not shown, as it holds a secret"},
		"secret in line": {source: identity + "a: {{.PasswordHash}}: b\n", want: "not shown, as it holds a secret"},
	} {
		t.Run(name, func(t *testing.T) {
			w := example(t)
			w.PasswordHash = "$6$salt$hash-of-the-password"
			if c.spoil != nil {
				c.spoil(&w)
			}
			tmpl, err := Load(fstest.MapFS{"mine.yaml": {Data: []byte(c.source)}}, "/own", "mine")
			if err == nil {
				_, err = tmpl.Render(w)
			}
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "mine (/own/mine.yaml)")):
				t.Errorf("%v, want it to name the template and %q", err, c.want)
			case err != nil && (strings.Contains(err.Error(), w.PasswordHash) || strings.Contains(err.Error(), "\n")):
				t.Errorf("a secret or more than a line: %v", err)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	folder := fstest.MapFS{
		"plain.yaml": {Data: []byte("#cloud-config\n")}, "own.yaml": {Data: []byte("#cloud-config\n")},
		"notes.txt": {}, "folder.yaml/x": {},
	}
	if got, want := Names(folder), []string{"minimal", "original", "original-snapshot", "own", "plain", "plain-snapshot"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for name, origin := range map[string]string{"plain": "/t/plain.yaml", "own": "/t/own.yaml", "minimal": "built in"} {
		got, err := Load(folder, "/t/", name)
		if err != nil || got.origin != origin || got.name != name {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, name := range []string{"other", "../plain", "", "parts.tmpl"} {
		if _, err := Load(folder, "/t", name); err == nil || !strings.Contains(err.Error(), "minimal, original, ") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := Load(folder, "/t", "folder"); err == nil {
		t.Error("a folder was taken for a template")
	}
}

func TestReadSite(t *testing.T) {
	half := make([]byte, SiteLimit/2+1)
	for name, c := range map[string]struct {
		folder fstest.MapFS
		want   string
	}{
		"good":     {folder: fstest.MapFS{"index.html": {Data: []byte("a")}, "css/site.css": {}}},
		"large":    {folder: fstest.MapFS{"film.mp4": {Data: make([]byte, SiteLimit+1)}}, want: "film.mp4 has 32769 bytes"},
		"together": {folder: fstest.MapFS{"a": {Data: half}, "b": {Data: half}}, want: "more than 32768 bytes in all"},
		"link":     {folder: fstest.MapFS{"a": {Mode: 1 << 27 /* fs.ModeSymlink */, Data: []byte("/etc/passwd")}}, want: "a is no plain file"},
	} {
		site, err := ReadSite(c.folder)
		if c.want == "" {
			if paths := slices.Sorted(maps.Keys(site)); err != nil || !slices.Equal(paths, []string{"css/site.css", "index.html"}) {
				t.Errorf("%s: %q, %v", name, paths, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// Any text is written so that it is read as what it was, and the shell sees
// one word.
func TestAnyTextIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.OneOf(rapid.String(), rapid.StringMatching(`([ -~\t]{0,12}\n){1,5}`)).Draw(t, "text")
		for name, write := range map[string]func(string) (string, error){
			"quote": quote,
			"text":  func(s string) (string, error) { return text(4, s) },
		} {
			written, err := write(want)
			if err != nil {
				t.Fatal(err)
			}
			var got struct{ A, B string }
			if err := yaml.Unmarshal([]byte("a: "+written+"\nb: end\n"), &got); err != nil {
				t.Fatalf("%s: %v in\n%s", name, err, written)
			}
			if diff := cmp.Diff(want, got.A); diff != "" || got.B != "end" {
				t.Fatalf("%s: %s\n%s", name, diff, written)
			}
		}
	})
	if _, err := quote("\xff"); err == nil {
		t.Error("what is no UTF-8 was written")
	}
	for _, word := range []string{"", "it's", "$(reboot) `x` \\ \"", "two\nlines"} {
		quoted, err := shell(word)
		out, ran := exec.Command("sh", "-c", "printf %s "+quoted).Output()
		if err != nil || ran != nil || string(out) != word {
			t.Errorf("%q became %q: %v, %v", word, out, err, ran)
		}
	}
	if _, err := shell("a\x00b"); err == nil {
		t.Error("a zero byte was written")
	}
}
