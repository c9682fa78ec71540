// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var update = flag.Bool("update", false, "write the manual pages and the completion scripts anew")

const packaging = "../../packaging/"

// TestManual protects who reads the manual: its pages are made of what --help
// says, one for each verb, and -update makes them anew. What --help does not say
// (units, files, environment) is in packaging/man/sections.mdoc.
func TestManual(t *testing.T) {
	pages := map[string]string{}
	for _, cmd := range append(commands(tree(t)), tree(t)) {
		pages[packaging+"man/"+pageName(cmd)+".8"] = manualPage(t, cmd)
	}
	golden(t, pages)
	found, err := filepath.Glob(packaging + "man/*.8")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range found {
		if _, ok := pages[page]; ok {
			continue
		}
		if *update {
			os.Remove(page)
			continue
		}
		t.Errorf("%s is of no verb; `go test ./cmd/agent -update` removes it", page)
	}
}

// TestCompletions protects the packaged completion scripts in the same way.
// They ask the installed binary for verbs, flags and volumes.
func TestCompletions(t *testing.T) {
	files := map[string]string{}
	for file, shell := range map[string]string{"volseal.bash": "bash", "volseal.fish": "fish", "_volseal": "zsh"} {
		var out bytes.Buffer
		if code := runCLI(t.Context(), []string{"completion", shell}, terminal{stdout: &out, stderr: io.Discard}); code != exitDone {
			t.Fatalf("completion %s: exit code %d", shell, code)
		}
		files[packaging+"completions/"+file] = out.String()
	}
	golden(t, files)
}

// TestHelpFits protects who reads --help: no line is wider than a terminal, and
// every verb and flag says what it does.
func TestHelpFits(t *testing.T) {
	root := tree(t)
	for _, cmd := range append(commands(root), root) {
		var out bytes.Buffer
		printHelp(&out, cmd)
		for line := range strings.Lines(out.String()) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > width {
				t.Errorf("%s --help: %d columns: %s", cmd.CommandPath(), n, line)
			}
		}
		if cmd.Short == "" || strings.HasSuffix(cmd.Short, ".") {
			t.Errorf("%s: Short is a phrase without a full stop, not %q", cmd.CommandPath(), cmd.Short)
		}
		for _, f := range ownFlags(cmd) {
			if f.Usage == "" {
				t.Errorf("%s: --%s does not say what it does", cmd.CommandPath(), f.Name)
			}
		}
	}
}

// tree is every verb of the product.
func tree(t *testing.T) *cobra.Command {
	t.Helper()
	return newRootCommand(&cli{}, agentCommand())
}

// commands are those below cmd, of one word and of two; help has no page.
func commands(cmd *cobra.Command) (all []*cobra.Command) {
	for _, sub := range cmd.Commands() {
		if !sub.Hidden && sub.Name() != "help" {
			all = append(append(all, sub), commands(sub)...)
		}
	}
	return all
}

// golden compares files with what they should be; -update writes them.
func golden(t *testing.T, files map[string]string) {
	t.Helper()
	for name, want := range files {
		if *update {
			if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		got, err := os.ReadFile(name)
		if err != nil {
			t.Errorf("%v; `go test ./cmd/agent -update` writes it", err)
			continue
		}
		if string(got) != want {
			t.Errorf("%s is out of date; `go test ./cmd/agent -update` writes it anew, and git diff shows what changed", name)
		}
	}
}

func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// manualPage is a command's page, in mdoc.
func manualPage(t *testing.T, cmd *cobra.Command) string {
	t.Helper()
	var m mdoc
	m.page(cmd)
	if cmd.HasParent() {
		m.section("EXIT STATUS", "As of every verb: see\n.Xr volseal 8 .\n")
		m.examples(cmd)
		m.section("SEE ALSO", seeAlso(cmd))
		return m.String()
	}
	sections, err := os.ReadFile(packaging + "man/sections.mdoc")
	if err != nil {
		t.Fatal(err)
	}
	m.Write(sections)
	m.exitStatus()
	m.examples(cmd)
	m.section("SEE ALSO", seeAlso(cmd))
	return m.String()
}

// mdoc is a manual page in the making.
type mdoc struct{ strings.Builder }

func (m *mdoc) page(cmd *cobra.Command) {
	m.WriteString(".\\\" SPDX-License-Identifier: Apache-2.0\n")
	m.WriteString(".\\\" Made of what --help says: go test ./cmd/agent -update\n")
	fmt.Fprintf(m, ".Dd January 1, 2026\n.Dt %s 8\n.Os\n", strings.ToUpper(pageName(cmd)))
	m.section("NAME", fmt.Sprintf(".Nm %s\n.Nd %s\n", pageName(cmd), roff(lowerFirst(cmd.Short))))
	m.section("SYNOPSIS", synopsisMdoc(cmd))
	m.section("DESCRIPTION", textMdoc(describe(cmd)))
	var verbs []row
	for _, verb := range leaves(cmd) {
		verbs = append(verbs, row{wordsMdoc(synopsisOf(cmd, verb)), roff(verb.Short) + ".\n"})
	}
	m.list("VERBS", verbs)
	m.list("OPTIONS", flagsMdoc(ownFlags(cmd)))
	m.list("OPTIONS OF EVERY VERB", flagsMdoc(commonFlags(cmd)))
}

// synopsisOf is the part of a verb's synopsis that comes after cmd and before its flags.
func synopsisOf(cmd, verb *cobra.Command) []string {
	words := synopsis(verb)[len(strings.Fields(cmd.CommandPath())):]
	if i := slices.IndexFunc(words, func(w string) bool { return strings.Contains(w, "--") }); i >= 0 {
		words = words[:i]
	}
	return words
}

func synopsisMdoc(cmd *cobra.Command) string {
	words := synopsis(cmd)
	return ".Nm " + words[0] + "\n" + "." + strings.Join(macros(words[1:]), "\n.") + "\n"
}

func (m *mdoc) exitStatus() {
	m.WriteString(".Sh EXIT STATUS\n.Bl -tag -width 4n -compact\n")
	for _, e := range exitStatuses() {
		fmt.Fprintf(m, ".It %d\n%s\n", e.code, e.meaning)
	}
	m.WriteString(".El\n")
}

func (m *mdoc) examples(cmd *cobra.Command) {
	if cmd.Example != "" {
		m.section("EXAMPLES", literalMdoc(cmd.Example))
	}
}

func (m *mdoc) section(title, body string) {
	if body != "" {
		fmt.Fprintf(m, ".Sh %s\n%s", title, body)
	}
}

type row struct{ term, text string }

func (m *mdoc) list(title string, rows []row) {
	if len(rows) == 0 {
		return
	}
	m.WriteString(".Sh " + title + "\n.Bl -tag -width Ds\n")
	for _, r := range rows {
		fmt.Fprintf(m, ".It %s\n%s", r.term, r.text)
	}
	m.WriteString(".El\n")
}

func flagsMdoc(flags []*pflag.Flag) (rows []row) {
	for _, f := range flags {
		term := wordsMdoc(strings.Fields(flagWord(f)))
		if f.Shorthand != "" {
			term += " , Fl " + f.Shorthand
		}
		rows = append(rows, row{term, textMdoc(upperFirst(flagText(f)) + ".")})
	}
	return rows
}

func wordsMdoc(words []string) string { return strings.Join(macros(words), " ") }

// macros are the words of a synopsis in mdoc.
func macros(words []string) (all []string) {
	optional := regexp.MustCompile(`^\[(.*)\]$`)
	for _, w := range strings.Fields(joinBrackets(words)) {
		w = strings.ReplaceAll(w, "\x00", " ")
		if m := optional.FindStringSubmatch(w); m != nil {
			all = append(all, "Op "+macro(m[1]))
			continue
		}
		all = append(all, macro(w))
	}
	return all
}

// joinBrackets keeps what stands in one pair of brackets in one word.
func joinBrackets(words []string) string {
	var b strings.Builder
	depth := 0
	for _, r := range strings.Join(words, " ") {
		switch r {
		case '[':
			depth++
		case ']':
			depth--
		case ' ':
			if depth > 0 {
				r = '\x00'
			}
		}
		b.WriteRune(r)
	}
	return b.String()
}

// macro is one word: a flag with its value, an argument in capitals, or a verb.
func macro(word string) string {
	flag, value, _ := strings.Cut(word, " ")
	switch {
	case value != "":
		return macro(flag) + " Ar " + value
	case strings.HasSuffix(flag, "]"):
		flag, value, _ = strings.Cut(strings.TrimSuffix(flag, "]"), "[=")
		return macro(flag) + " Ns Op = Ns Ar " + value
	case strings.HasPrefix(flag, "-"):
		return "Fl " + flag[1:]
	case strings.ToUpper(flag) == flag:
		return "Ar " + flag
	}
	return "Ic " + flag
}

// textMdoc is flowing text: each sentence on a line of its own, as mdoc likes it.
func textMdoc(text string) string {
	sentenceEnd := regexp.MustCompile(`([.:;?!]) ([A-Z"])`)
	var parts []string
	for _, p := range paragraphs(text) {
		if verbatim(p) {
			parts = append(parts, literalMdoc(p))
			continue
		}
		p = strings.Join(strings.Fields(p), " ")
		var b strings.Builder
		for sentence := range strings.SplitSeq(sentenceEnd.ReplaceAllString(p, "$1\n$2"), "\n") {
			for line := range strings.Lines(wrap("", sentence)) {
				b.WriteString(roff(line))
			}
		}
		parts = append(parts, b.String())
	}
	return strings.Join(parts, ".Pp\n")
}

func literalMdoc(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.Trim(text, "\n") + "\n") {
		b.WriteString(roff(line))
	}
	return ".Bd -literal -offset indent\n" + b.String() + ".Ed\n"
}

// roff escapes what would be a command, or not be what was written.
func roff(line string) string {
	line = strings.NewReplacer(`\`, `\e`, "…", "...", "“", `\(lq`, "”", `\(rq`).Replace(line)
	line = regexp.MustCompile(`(^|\s)-(-?)`).ReplaceAllStringFunc(line, func(dashes string) string {
		return strings.ReplaceAll(dashes, "-", `\-`) // of a flag: a minus, that can be copied
	})
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		return `\&` + line
	}
	return line
}

func lowerFirst(text string) string { return strings.ToLower(text[:1]) + text[1:] }

func upperFirst(text string) string { return strings.ToUpper(text[:1]) + text[1:] }

// seeAlso leads from the first page to all, and from each to the first and to its kin.
func seeAlso(cmd *cobra.Command) string {
	refs := []string{"systemctl 1", "volseal.yaml 5", "cryptsetup 8"}
	kin := commands(cmd)
	if cmd.HasParent() {
		refs = []string{"volseal 8"}
		if parent := cmd.Parent(); parent.HasParent() {
			kin = append(kin, parent)
		}
	}
	for _, c := range kin {
		refs = append(refs, pageName(c)+" 8")
	}
	return ".Xr " + strings.Join(refs, " ,\n.Xr ") + "\n"
}
