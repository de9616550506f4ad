package cloudinit

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

//go:embed templates
var builtin embed.FS

// suffix is that of a template's file; the rest of its name is the template's.
const suffix = ".yaml"

// Template makes user data.
type Template struct {
	name, origin string
	parsed       *template.Template
}

// Builtin returns a template of adt's own: minimal, plain, plain-snapshot,
// original or original-snapshot.
func Builtin(name string) (*Template, error) { return Load(nil, "", name) }

// Load returns the template of that name, see Find.
func Load(folder fs.FS, path, name string) (*Template, error) {
	source, origin, err := Find(folder, path, name)
	if err != nil {
		return nil, err
	}
	return parse(name, origin, source)
}

// Find returns the text of a template, a text/template over a Webserver, and
// where it is from: NAME.yaml in the folder, or else "built in". The folder may
// be nil; its path is for messages.
func Find(folder fs.FS, path, name string) (source, origin string, err error) {
	file := strings.TrimSuffix(path, "/") + "/" + name + suffix
	text, err := fs.ReadFile(builtin, "templates/"+name+suffix)
	origin = "built in"
	if strings.Contains(name, "/") {
		err, folder = fs.ErrNotExist, nil
	}
	if folder != nil {
		own, failed := fs.ReadFile(folder, name+suffix)
		if !errors.Is(failed, fs.ErrNotExist) {
			text, origin, err = own, file, failed
		}
	}
	switch {
	case err == nil:
		return string(text), origin, nil
	case origin != "built in":
		return "", "", fmt.Errorf("read the template %s: %w", file, err)
	}
	return "", "", fmt.Errorf("there is no template %q; there are: %s", name, strings.Join(Names(folder), ", "))
}

// Names returns the names of all templates that Load finds, sorted. The folder
// may be nil.
func Names(folder fs.FS) []string {
	all := names(builtin, "templates")
	if folder != nil {
		all = append(all, names(folder, ".")...)
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func names(fsys fs.FS, dir string) []string {
	var out []string
	entries, _ := fs.ReadDir(fsys, dir) // no folder, no templates
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), suffix); ok && name != "" && !e.IsDir() {
			out = append(out, name)
		}
	}
	return out
}

func parse(name, origin, source string) (*Template, error) {
	t := template.New(name)
	t.Funcs(functions(t))
	parts, err := builtin.ReadFile("templates/parts.tmpl")
	if err == nil {
		_, err = t.New("parts.tmpl").Parse(string(parts))
	}
	if err == nil {
		_, err = t.Parse(source)
	}
	if err != nil {
		return nil, fmt.Errorf("cloud-init template %s (%s): %s", name, origin, plain(err))
	}
	return &Template{name: name, origin: origin, parsed: t}, nil
}

// Render makes the user data of w, at most Limit bytes. It is read back before
// it is returned: what is in w and not in it as it is in w, is an error. No
// error tells a secret of w.
func (t *Template) Render(w Webserver) ([]byte, error) {
	data, err := t.render(w)
	if err != nil {
		return nil, fmt.Errorf("user data of %q, template %s (%s): %s", w.Hostname, t.name, t.origin, w.discreet(plain(err)))
	}
	return data, nil
}

func (t *Template) render(w Webserver) ([]byte, error) {
	if err := w.complete(); err != nil {
		return nil, err
	}
	if w.SSHPort == 0 {
		w.SSHPort = 22
	}
	if w.HTTPSPort == 0 {
		w.HTTPSPort = 443
	}
	if w.HeadFile == "" {
		w.HeadFile = "index.html"
	}
	for _, files := range []map[string][]byte{{w.HeadFile: nil}, w.Site, w.Settings} {
		for path := range files {
			if !fs.ValidPath(path) || path == "." {
				return nil, fmt.Errorf("%q is no path of a file below the web root or home", path)
			}
		}
	}
	var b bytes.Buffer
	if err := t.parsed.Execute(&b, given{w}); err != nil {
		return nil, err
	}
	return b.Bytes(), w.check(b.Bytes())
}

// plain is an error's message as text/template tells it, without how it begins
// and without the templates that included the one where it happened.
func plain(err error) string {
	message := err.Error()
	for failed := (template.ExecError{}); errors.As(err, &failed); err = failed.Err {
		message = failed.Error()
	}
	return strings.TrimPrefix(message, "template: ")
}

// given is what a template works on: a Webserver, and what follows from it.
type given struct{ Webserver }

// Pages are the files of the website, with the head file in any case.
func (g given) Pages() map[string][]byte {
	pages := map[string][]byte{
		g.HeadFile: []byte("<!DOCTYPE html>\n<title>" + html.EscapeString(g.Hostname) + "</title>\n<p>This webserver was built by adt.</p>\n"),
	}
	for path, content := range g.Site {
		pages[path] = content
	}
	return pages
}

// LocalURL is where the webserver itself finds the head file.
func (g given) LocalURL() string {
	u := url.URL{Scheme: "https", Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(g.HTTPSPort)), Path: "/" + g.HeadFile}
	return u.String()
}
