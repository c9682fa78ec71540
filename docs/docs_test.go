// SPDX-License-Identifier: Apache-2.0

// Package docs holds what people read. There is no code here, only tests that
// hold the pages against the code, so that nobody is sent the wrong way at night.
package docs

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/volume"
)

// TestRunbookExplainsAlerts protects whoever follows a runbook_url: it leads to
// a section, and the section answers the four questions of the night.
func TestRunbookExplainsAlerts(t *testing.T) {
	sections := sectionsOf(read(t, "runbook.md"))
	urls := find(t, "../packaging/prometheus/volseal.rules.yml", `runbook_url: \S*/docs/runbook\.md#(\S+)`)
	alerts := find(t, "../packaging/prometheus/volseal.rules.yml", `- alert: (\S+)`)
	if len(urls) != len(alerts) {
		t.Errorf("%d alerts, %d links to the runbook", len(alerts), len(urls))
	}
	for _, anchor := range urls {
		for _, question := range []string{"**Means:**", "**Customer sees:**", "**Who acts:**", "**Heals by itself:**"} {
			if !strings.Contains(sections[anchor], question) {
				t.Errorf("runbook.md#%s: no %s", anchor, question)
			}
		}
	}
}

// TestExitCodesAreExplained protects scripts and their authors: each number has
// its row and its section, under the class's own name where it is one of a class.
func TestExitCodesAreExplained(t *testing.T) {
	runbook, table := read(t, "runbook.md"), read(t, "cli.md")
	for _, code := range find(t, "../cmd/agent/exitcodes.go", `(?m)^\texit\w+ += (\d+)`) {
		if !strings.Contains(runbook, "\n### Exit "+code+": ") {
			t.Errorf("runbook.md: no section on exit %s", code)
		}
		if !regexp.MustCompile(`\| ` + code + ` \| [a-z]`).MatchString(table) {
			t.Errorf("cli.md: no row for exit %s", code)
		}
	}
	for _, c := range fault.Classes() {
		if !regexp.MustCompile(`\n### Exit \d+: .*` + string(c)).MatchString(runbook) {
			t.Errorf("runbook.md: no exit code for class %s", c)
		}
	}
}

// TestMetricsAreDocumented protects dashboards: every metric has a row with its
// type and labels, and no row speaks of a metric that is gone.
func TestMetricsAreDocumented(t *testing.T) {
	golden := read(t, "../internal/metrics/testdata/metrics.prom")
	rows := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(volseal_\\w+)` \\| (\\w+) \\|(.*?)\\| (.*) \\| `(.*)` \\|$").FindAllStringSubmatch(read(t, "metrics.md"), -1) {
		rows[row[1]] = row
	}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (volseal_\w+) (\w+)`).FindAllStringSubmatch(golden, -1) {
		name, kind := m[1], m[2]
		row := rows[name]
		delete(rows, name)
		if row == nil {
			t.Errorf("metrics.md: no row for %s", name)
			continue
		}
		documented := regexp.MustCompile(`\w+`).FindAllString(row[3], -1)
		slices.Sort(documented)
		if want := labelsOf(golden, name); row[2] != kind || !slices.Equal(documented, want) {
			t.Errorf("metrics.md: %s is a %s with %v, want %s with %v", name, row[2], documented, kind, want)
		}
		if !strings.Contains(row[5], name) {
			t.Errorf("metrics.md: the example for %s does not use it", name)
		}
	}
	for name := range rows {
		t.Errorf("metrics.md: %s is no metric", name)
	}
}

// TestStepsAreDocumented protects queries by step.
func TestStepsAreDocumented(t *testing.T) {
	page := read(t, "metrics.md")
	for _, s := range volume.Steps() {
		if !strings.Contains(page, "`"+string(s)+"`") {
			t.Errorf("metrics.md: no mention of step %s", s)
		}
	}
}

// labelsOf are the labels of a metric's samples, in order of their names.
func labelsOf(exposition, name string) (labels []string) {
	sample := regexp.MustCompile(`(?m)^` + name + `(?:_bucket|_count)?\{(.*)\}`).FindStringSubmatch(exposition)
	if sample == nil {
		return nil
	}
	for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(sample[1], -1) {
		if l[1] != "le" {
			labels = append(labels, l[1])
		}
	}
	slices.Sort(labels)
	return labels
}

// TestJSONIsDocumented protects scripts that read status --json and the API's
// errors: every field, phase, class, state and code is on the page.
func TestJSONIsDocumented(t *testing.T) {
	sections := sectionsOf(read(t, "cli.md"))
	for anchor, fields := range map[string][]string{
		"volume": jsonNames(volume.Status{}), "key": jsonNames(volume.KeyStatus{}), "layer": jsonNames(volume.Layer{}),
		"rotation": jsonNames(volume.Rotation{}), "check": jsonNames(fault.Check{}),
	} {
		if rows := firstCells(sections[anchor]); !slices.Equal(rows, fields) {
			t.Errorf("cli.md#%s: %v, want %v", anchor, rows, fields)
		}
	}
	page := read(t, "cli.md")
	for _, word := range slices.Concat(texts(volume.Phases()), texts(volume.KeyStates()), texts(volume.Layers()), texts(fault.Classes()), texts(fault.CheckStatuses())) {
		if !strings.Contains(page, "`"+word+"`") {
			t.Errorf("cli.md: no mention of %s", word)
		}
	}
	for _, code := range find(t, "../internal/control/errors.go", `Code = "(\w+)"`) {
		if code != "timeout" && !strings.Contains(page, "`"+code+"`") { // timeout: nothing says it
			t.Errorf("cli.md: no mention of error code %s", code)
		}
	}
}

// TestRoutesAreDocumented protects clients of the socket.
func TestRoutesAreDocumented(t *testing.T) {
	page := read(t, "cli.md")
	for _, path := range find(t, "../internal/control/routes.go", `"(?:GET|POST)", "(/v1/[a-z/{}]*?)/?"`) {
		if path = strings.ReplaceAll(path, "{name}", "NAME"); !strings.Contains(page, path) {
			t.Errorf("cli.md: no mention of %s", path)
		}
	}
}

// TestCommandsExist protects who copies a command: its verb is one that this
// version has, and every verb is in the table.
func TestCommandsExist(t *testing.T) {
	verbs := verbsOf(t)
	for _, page := range pages(t) {
		for _, block := range matches(read(t, page), "(?ms)^ *```sh\n(.*?)^ *```") {
			for _, verb := range matches(block, `(?m)(?:^|[;&|(] *)(?: *)volseal ([a-z]+)`) {
				if !slices.Contains(verbs, verb) {
					t.Errorf("%s: volseal %s is no verb", page, verb)
				}
			}
		}
	}
	table := read(t, "cli.md")
	for _, verb := range verbs {
		if verb != "volseal" && !regexp.MustCompile("(?m)^\\|.*`([a-z]+ )?"+verb+"\\b").MatchString(table) {
			t.Errorf("cli.md: no mention of %s", verb)
		}
	}
}

// verbsOf are the verbs of this version.
func verbsOf(t *testing.T) []string {
	t.Helper()
	verbs := find(t, "../internal/volume/reconciler.go", `Verb\w+ +Verb = "([a-z]+)"`)
	sources, err := filepath.Glob("../cmd/agent/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatalf("sources: %v", err)
	}
	for _, source := range sources {
		verbs = append(verbs, matches(read(t, source), `(?:Use:\s+|group\()"([a-z]+)`)...)
	}
	return verbs
}

// prose are the words that follow volseal where it is the subject of a
// sentence. A word that might one day be a verb has no place here.
var prose = []string{
	"and", "are", "asks", "attaches", "belongs", "command", "decides", "does", "explains", "has", "is", "itself", "learns", "makes", "may",
	"needs", "never", "nor", "or", "token", "uses", "writes", "wrote",
}

// TestHintsNameVerbs protects whoever follows a hint: each `volseal VERB` in the
// program's own words, its manuals and its examples is a verb of this version.
func TestHintsNameVerbs(t *testing.T) {
	known := slices.Concat(verbsOf(t), prose, []string{"help", "completion", "key"})
	seen := 0
	check := func(file, text string) {
		for _, verb := range matches(text, `\bvolseal ([a-z]+)`) {
			seen++
			if !slices.Contains(known, verb) {
				t.Errorf("%s: volseal %s is no verb", file, verb)
			}
		}
	}
	for _, dir := range []string{"../cmd", "../internal"} {
		walk(t, dir, ".go", func(file string) {
			if !strings.HasSuffix(file, "_test.go") {
				for _, text := range literals(t, file) {
					check(file, text)
				}
			}
		})
	}
	if seen < 10 {
		t.Fatalf("only %d places found", seen)
	}
	for _, dir := range []string{"../packaging/examples", "../packaging/scripts", "../packaging/prometheus"} {
		walk(t, dir, "", func(file string) {
			for _, quoted := range matches(read(t, file), "(?:[`(:] ?)(volseal [a-z]+)") {
				check(file, quoted)
			}
		})
	}
	walk(t, "../packaging/man", "", func(file string) {
		for _, quoted := range matches(read(t, file), `Ql (volseal [a-z]+)`) {
			check(file, quoted)
		}
	})
}

func walk(t *testing.T, dir, suffix string, each func(file string)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() && strings.HasSuffix(path, suffix) {
			each(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// literals are the texts in a Go file; a text of several lines has its breaks.
func literals(t *testing.T, file string) (texts []string) {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for node := range ast.Preorder(parsed) {
		if lit, ok := node.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			texts = append(texts, text)
		}
	}
	return texts
}

// TestLinks protects readers from links that lead nowhere.
func TestLinks(t *testing.T) {
	for _, page := range pages(t) {
		for _, link := range matches(read(t, page), `\]\(([^)\s]+)\)`) {
			if strings.Contains(link, "://") {
				continue
			}
			file, anchor, _ := strings.Cut(link, "#")
			target := filepath.Join(filepath.Dir(page), cmp.Or(file, filepath.Base(page)))
			if _, err := os.Stat(target); err != nil {
				t.Errorf("%s: %s leads nowhere", page, link)
				continue
			}
			if anchor == "" {
				continue
			}
			if _, ok := sectionsOf(read(t, target))[anchor]; !ok {
				t.Errorf("%s: %s: no such section", page, link)
			}
		}
	}
}

// TestNamedTestsExist protects the pages' claims: a test that a page calls as
// its witness is there.
func TestNamedTestsExist(t *testing.T) {
	named := map[string]string{}
	for _, page := range pages(t) {
		for _, test := range matches(read(t, page), "`((?:Test|Fuzz)[A-Z]\\w+)`") {
			named[test] = page
		}
	}
	err := filepath.WalkDir("..", func(path string, _ os.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		for _, test := range find(t, path, `(?m)^func ((?:Test|Fuzz)\w+)\(`) {
			delete(named, test)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for test, page := range named {
		t.Errorf("%s: there is no %s", page, test)
	}
	for _, page := range pages(t) {
		for _, scenario := range matches(read(t, page), "`(test/lab/scenarios/\\S+\\.sh)`") {
			if _, err := os.Stat(filepath.Join("..", scenario)); err != nil {
				t.Errorf("%s: there is no %s", page, scenario)
			}
		}
	}
}

// TestEveryClaimHasAWitness protects the threat model from becoming a wish list.
func TestEveryClaimHasAWitness(t *testing.T) {
	rows := regexp.MustCompile(`(?m)^\| ([^|]+) \| ([^|]+) \|$`).FindAllStringSubmatch(read(t, "threat-model.md"), -1)
	if len(rows) < 30 {
		t.Fatalf("only %d rows", len(rows))
	}
	for _, row := range rows {
		if row[1] != "claim" && row[1] != "---" && !regexp.MustCompile("`(Test|Fuzz|test/lab/scenarios/)").MatchString(row[2]) {
			t.Errorf("no witness for: %s", row[1])
		}
	}
}

// pages are those that are written by hand for people.
func pages(t *testing.T) []string {
	t.Helper()
	all := []string{}
	for _, pattern := range []string{"*.md", "adr/*.md", "../*.md"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no pages at %s: %v", pattern, err)
		}
		all = append(all, found...)
	}
	return all
}

// sectionsOf is a page by the anchors that GitHub gives its headings. The text of
// one reaches to the next heading, of whatever level.
func sectionsOf(page string) map[string]string {
	sections := map[string]string{}
	anchor, code := "", false
	for line := range strings.Lines(page) {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
		}
		if title, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") && !code {
			anchor = slug(strings.TrimSpace(title))
		}
		sections[anchor] += line
	}
	return sections
}

func slug(title string) string {
	kept := regexp.MustCompile(`[^\w -]`).ReplaceAllString(strings.ToLower(title), "")
	return strings.ReplaceAll(kept, " ", "-")
}

// jsonNames are the names of a struct's fields in JSON, in their order.
func jsonNames(v any) (names []string) {
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	return names
}

// firstCells are the first cells of a table's rows, where they are code.
func firstCells(section string) []string { return matches(section, "(?m)^\\| `([a-z_]+)` \\|") }

func texts[T ~string](values []T) (all []string) {
	for _, v := range values {
		all = append(all, string(v))
	}
	return all
}

// find returns what the pattern's group matches in a file.
func find(t *testing.T, file, pattern string) []string {
	t.Helper()
	return matches(read(t, file), pattern)
}

func matches(text, pattern string) (all []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}

func read(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
