package metrics

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func here() []string { return []string{"shop", "1"} }

func TestWrite(t *testing.T) {
	var b bytes.Buffer
	err := Write(&b, here(), []Sample{
		{"adt_builds", []string{"named"}, 2},
		{"adt_webserver_strikes", []string{"b\"\\\n\xff"}, 1},
		{"adt_webserver_strikes", []string{"a"}, 0},
		{"adt_webservers_wanted", nil, 15},
		{"adt_command_duration_seconds", []string{"scale"}, 0.025},
	})
	want := `# HELP adt_webservers_wanted The profile of this autoscaler: how many webservers it keeps, besides the initial ones.
# TYPE adt_webservers_wanted gauge
adt_webservers_wanted{build="shop",autoscaler="1"} 15
# HELP adt_webserver_strikes Failed health checks in a row.
# TYPE adt_webserver_strikes gauge
adt_webserver_strikes{build="shop",autoscaler="1",webserver="a"} 0
adt_webserver_strikes{build="shop",autoscaler="1",webserver="b\"\\\n�"} 1
# HELP adt_builds Webservers of this autoscaler being built, by the phase that they have reached.
# TYPE adt_builds gauge
adt_builds{build="shop",autoscaler="1",phase="named"} 2
# HELP adt_command_duration_seconds How long the last run that ended took.
# TYPE adt_command_duration_seconds gauge
adt_command_duration_seconds{build="shop",autoscaler="1",command="scale"} 0.025
`
	if d := cmp.Diff(want, b.String()); d != "" || err != nil {
		t.Errorf("%v\n%s", err, d)
	}
}

func TestWriteRefuses(t *testing.T) {
	for name, samples := range map[string][]Sample{
		"unknown":        {{"adt_nothing", nil, 1}},
		"too few labels": {{"adt_builds", nil, 1}},
		"too many":       {{"adt_webservers_wanted", []string{"x"}, 1}},
		"twice":          {{"adt_builds", []string{"named"}, 1}, {"adt_builds", []string{"named"}, 2}},
	} {
		var b bytes.Buffer
		if err := Write(&b, here(), samples); err == nil || b.Len() > 0 {
			t.Errorf("%s: %v, %s", name, err, &b)
		}
	}
}

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "adt.prom")
	one := []Sample{{"adt_builds", []string{"named"}, 1}}
	if err := WriteFile(path, here(), one); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("%v, %v: node_exporter must be able to read it", info.Mode(), err)
	}
	before, _ := os.ReadFile(path)
	if err := WriteFile(path, here(), append(one, one...)); err == nil {
		t.Error("no error")
	}
	after, _ := os.ReadFile(path)
	left, _ := os.ReadDir(filepath.Dir(path))
	if !bytes.Equal(before, after) || len(left) != 1 {
		t.Errorf("a failed write left %q and %v", after, left)
	}
	if err := WriteFile(filepath.Join(t.TempDir(), "nowhere", "adt.prom"), here(), one); err == nil {
		t.Error("a folder that is not there: no error")
	}
}

// all has a sample of each family.
func all() (samples []Sample) {
	for _, f := range Families() {
		samples = append(samples, Sample{f.Name, make([]string, len(f.Labels)), 1})
	}
	return samples
}

// promtool runs Prometheus' own checker, and leaves the test out where it is not
// installed, unless ADT_REQUIRE has promtool.
func promtool(t *testing.T, stdin string, args ...string) {
	t.Helper()
	if _, err := exec.LookPath("promtool"); err != nil {
		text := "LEFT OUT: metrics are not shown to Prometheus: promtool is not installed (apt install prometheus)"
		if slices.Contains(strings.Split(os.Getenv("ADT_REQUIRE"), ","), "promtool") {
			t.Fatal(text)
		}
		fmt.Fprintln(os.Stderr, text)
		t.Skip(text)
	}
	cmd := exec.CommandContext(t.Context(), "promtool", args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil || strings.Contains(string(out), "adt_") {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPromtool(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, here(), all()); err != nil {
		t.Fatal(err)
	}
	promtool(t, b.String(), "check", "metrics")
}

// expressions are those of the dashboard, with what Grafana puts in for variables.
func expressions(t *testing.T) (found []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "grafana.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard any
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for key, child := range v {
				if expr, ok := child.(string); ok && key == "expr" {
					found = append(found, strings.NewReplacer("$__rate_interval", "5m", "$build", "shop", "$autoscaler", "1").Replace(expr))
				}
				walk(child)
			}
		case []any:
			for _, child := range v {
				walk(child)
			}
		}
	}
	walk(dashboard)
	return found
}

// Each expression of the dashboard and of the guide's alerts is of metrics and labels
// that there are.
func TestExpressionsNameWhatThereIs(t *testing.T) {
	guide, err := os.ReadFile(filepath.Join("..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	known, labels := map[string]bool{}, Everywhere()
	for _, f := range Families() {
		known[f.Name] = true
		labels = append(labels, f.Labels...)
	}
	panels := expressions(t)
	if len(panels) < 10 {
		t.Fatalf("the dashboard has %d expressions, so it proves nothing", len(panels))
	}
	used := map[string]bool{}
	for _, expr := range append(panels, string(guide)) {
		for _, name := range regexp.MustCompile(`\badt_[a-z_]+`).FindAllString(expr, -1) {
			if used[name] = true; !known[name] {
				t.Errorf("there is no %s: %s", name, expr)
			}
		}
		for _, by := range regexp.MustCompile(`by \(([^)]*)\)|\{([^{}]*)\}`).FindAllStringSubmatch(expr, -1) {
			for part := range strings.SplitSeq(by[1]+by[2], ",") {
				name := regexp.MustCompile(`^\s*(\w+)`).FindString(part)
				if name = strings.TrimSpace(name); name != "" && !slices.Contains(labels, name) {
					t.Errorf("there is no label %s: %s", name, by[0])
				}
			}
		}
	}
	for name := range known {
		if !used[name] {
			t.Errorf("neither the dashboard nor the guide has %s", name)
		}
	}
}

// Prometheus understands the expressions of the dashboard.
func TestDashboardWithPromtool(t *testing.T) {
	rules := "groups:\n- name: dashboard\n  rules:\n"
	for i, expr := range expressions(t) {
		quoted, err := json.Marshal(expr)
		if err != nil {
			t.Fatal(err)
		}
		rules += fmt.Sprintf("  - record: panel:%d\n    expr: %s\n", i, quoted)
	}
	path := filepath.Join(t.TempDir(), "rules.yml")
	if err := os.WriteFile(path, []byte(rules), fs.FileMode(0o600)); err != nil {
		t.Fatal(err)
	}
	promtool(t, "", "check", "rules", path)
}

var update = flag.Bool("update", false, "write the table of metrics into docs/metrics.md")

// TestGuide holds the guide's table to the code:
// go test ./metrics -run Guide -update
func TestGuide(t *testing.T) {
	const path, begin, end = "../docs/metrics.md", "<!-- metrics -->\n", "<!-- /metrics -->"
	guide, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(guide), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the metrics", path)
	}
	var table strings.Builder
	table.WriteString("| metric | labels | kind | what it is |\n|---|---|---|---|\n")
	for _, f := range Families() {
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", f.Name, strings.Join(f.Labels, ", "), f.Kind, f.Help)
	}
	want := before + begin + table.String() + end + after
	if want == string(guide) {
		return
	}
	if !*update {
		t.Fatalf("the table of metrics in %s is not that of the code: go test ./metrics -run Guide -update", path)
	}
	if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
}
