// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/volseal/volseal/internal/control"
	"github.com/volseal/volseal/internal/fault"
	"github.com/volseal/volseal/internal/keypolicy"
	"github.com/volseal/volseal/internal/volume"
)

const schemaID = "https://github.com/volseal/volseal/blob/main/docs/schema/"

// printed is a kind of JSON that scripts read.
type printed struct {
	name  string // of the file; the verb's own, where one verb alone prints it
	title string
	value any
}

// printedKinds are all there are. Add a row, and -update writes its schema.
func printedKinds() []printed {
	return []printed{
		{"status", "status, and a line of status --watch; GET /v1/volumes", volume.Snapshot{}},
		{"volume", "one volume, at the end of --wait; GET /v1/volumes/NAME", volume.Status{}},
		{"key", "one CMK", volume.KeyStatus{}},
		{"accepted", "a wish that is recorded: create, restore, init, unlock, lock, reattach, release, rotate without --wait", control.Accepted{}},
		{"done", "what is finished when it is answered: cache flush, reload", control.Done{}},
		{"explain", "explain NAME", explanation{}},
		{"header-verify", "header verify NAME", volume.HeaderReport{}},
		{"header-backup", "header backup NAME", volume.HeaderBackup{}},
		{"header-restore", "header restore NAME", volume.HeaderRestored{}},
		{"rotate-all", "rotate --all", rotateReport{}},
		{"config-check", "config check", checked{}},
		{"key-check", "key check ARN", control.KeyReport{}},
		{"key-policy", "key policy", []keypolicy.Statement{}},
		{"doctor", "doctor; GET /v1/doctor", control.Report{}},
		{"version", "version", build{}},
		{"error", "why a request over the socket failed; the command line tells it on stderr, in words", control.Error{}},
	}
}

// kindsOf are the kinds that a verb may print. Any other verb prints its own.
func kindsOf(verb string) []string {
	switch verb {
	case "create", "restore", "init", "unlock", "lock", "reattach", "release":
		return []string{"accepted", "volume"}
	case "rotate":
		return []string{"accepted", "volume", "rotate-all"}
	case "reload", "cache flush":
		return []string{"done"}
	}
	return []string{strings.ReplaceAll(verb, " ", "-")}
}

// words are the closed sets of texts.
func words() map[reflect.Type][]string {
	wishes := []volume.Wish{volume.WishMounted, volume.WishSealed, volume.WishDetached}
	owners := []fault.Owner{fault.Customer, fault.Platform, fault.AWS}
	return map[reflect.Type][]string{
		reflect.TypeFor[fault.CheckStatus]():    plainTexts(fault.CheckStatuses()),
		reflect.TypeFor[volume.Phase]():         plainTexts(volume.Phases()),
		reflect.TypeFor[volume.KeyState]():      plainTexts(volume.KeyStates()),
		reflect.TypeFor[volume.LayerKind]():     plainTexts(volume.Layers()),
		reflect.TypeFor[volume.Wish]():          plainTexts(wishes),
		reflect.TypeFor[fault.Class]():          append([]string{""}, plainTexts(fault.Classes())...),
		reflect.TypeFor[fault.Owner]():          plainTexts(owners),
		reflect.TypeFor[rotateResult]():         plainTexts(rotateResults()),
		reflect.TypeFor[volume.RotationStage](): plainTexts(volume.RotationStages()),
	}
}

func plainTexts[T ~string](values []T) (all []string) {
	for _, v := range values {
		all = append(all, string(v))
	}
	return all
}

// TestSchemas protects scripts and their generators: docs/schema is what the
// structs are; -update writes it anew. Its descriptions are the rows of
// docs/cli.md, and else the comments of the fields.
func TestSchemas(t *testing.T) {
	files := map[string]string{}
	for _, kind := range printedKinds() {
		s := schemaOf(t, reflect.TypeOf(kind.value), true)
		s.Dialect, s.ID, s.Title = "https://json-schema.org/draft/2020-12/schema", schemaID+kind.name+".json", kind.title
		var out bytes.Buffer
		e := json.NewEncoder(&out)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(s); err != nil {
			t.Fatal(err)
		}
		files["../../docs/schema/"+kind.name+".json"] = out.String()
	}
	golden(t, files)
	page := readFile(t, "../../docs/cli.md")
	for file := range files {
		if name := filepath.Base(file); !strings.Contains(page, "(schema/"+name+")") {
			t.Errorf("cli.md: no link to schema/%s", name)
		}
	}
}

// schema is as much of JSON Schema as is needed. Fields that are not named are
// allowed: new ones may come.
type schema struct {
	Dialect     string     `json:"$schema,omitempty"`
	ID          string     `json:"$id,omitempty"`
	Title       string     `json:"title,omitempty"`
	Description string     `json:"description,omitempty"`
	Ref         string     `json:"$ref,omitempty"`
	Type        any        `json:"type,omitempty"`
	Format      string     `json:"format,omitempty"`
	Minimum     *int       `json:"minimum,omitempty"`
	Enum        []string   `json:"enum,omitempty"`
	Items       *schema    `json:"items,omitempty"`
	Properties  properties `json:"properties,omitzero"`
	Required    []string   `json:"required,omitempty"`
}

// properties keep their order.
type properties []property

type property struct {
	name string
	schema
}

func (p properties) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	for i, each := range p {
		raw, err := json.Marshal(each.schema)
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&b, "%s%q:%s", map[bool]string{true: "", false: ","}[i == 0], each.name, raw)
	}
	return []byte("{" + b.String() + "}"), nil
}

// schemaOf is the schema of a type; one that has a file of its own is referred to, except on top.
func schemaOf(t *testing.T, of reflect.Type, top bool) schema {
	t.Helper()
	for _, kind := range printedKinds() {
		if !top && of == reflect.TypeOf(kind.value) {
			return schema{Ref: kind.name + ".json"}
		}
	}
	switch {
	case of == reflect.TypeFor[*time.Time]():
		return schema{Type: []string{"string", "null"}, Format: "date-time"}
	case of == reflect.TypeFor[time.Time]():
		return schema{Type: "string", Format: "date-time"}
	case words()[of] != nil:
		return schema{Type: "string", Enum: words()[of]}
	}
	switch of.Kind() {
	case reflect.String:
		return schema{Type: "string"}
	case reflect.Bool:
		return schema{Type: "boolean"}
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return schema{Type: "integer", Minimum: new(int)}
	case reflect.Pointer: // left out where there is nothing to say
		return schemaOf(t, of.Elem(), false)
	case reflect.Slice:
		items := schemaOf(t, of.Elem(), false)
		return schema{Type: "array", Items: &items}
	case reflect.Struct:
		return structSchema(t, of)
	}
	t.Fatalf("no schema for a %s: say in schemaOf what it is in JSON", of)
	return schema{}
}

func structSchema(t *testing.T, of reflect.Type) schema {
	t.Helper()
	s := schema{Type: "object"}
	described := descriptions(t, of)
	for _, f := range reflect.VisibleFields(of) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" || f.Anonymous {
			continue
		}
		p := property{name, schemaOf(t, f.Type, false)}
		p.Description = described[f.Name]
		if f.Type.Kind() == reflect.Pointer && options == "" && p.Type == "object" {
			p.Type = []string{"object", "null"}
		}
		if row := tableRow(t, of, name); row != "" {
			p.Description = row
		}
		s.Properties = append(s.Properties, p)
		if options == "" {
			s.Required = append(s.Required, name)
		}
	}
	return s
}

// tableRow is what docs/cli.md says of a field of a volume or a key.
func tableRow(t *testing.T, of reflect.Type, field string) string {
	t.Helper()
	heading := map[reflect.Type]string{reflect.TypeFor[volume.Status](): "VOLUME", reflect.TypeFor[volume.KeyStatus](): "KEY", reflect.TypeFor[fault.Check](): "CHECK", reflect.TypeFor[rotatedVolume](): "MOVED"}[of]
	if heading == "" {
		return ""
	}
	_, section, _ := strings.Cut(readFile(t, "../../docs/cli.md"), "\n### "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n#")
	row := regexp.MustCompile("(?m)^\\| `" + field + "` \\| [^|]+ \\| (.*) \\|$").FindStringSubmatch(section)
	if row == nil {
		return ""
	}
	unlinked := regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(row[1], "$1")
	return strings.ReplaceAll(unlinked, "`", "")
}

// descriptions are the comments on a struct's fields.
func descriptions(t *testing.T, of reflect.Type) map[string]string {
	t.Helper()
	found := map[string]string{}
	_, dir, _ := strings.Cut(of.PkgPath(), "volseal/volseal/")
	sources, err := filepath.Glob("../../" + dir + "/*.go")
	if err != nil || len(sources) == 0 {
		t.Fatalf("%s: no sources: %v", of, err)
	}
	for _, source := range sources {
		parsed, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for node := range ast.Preorder(parsed) {
			spec, ok := node.(*ast.TypeSpec)
			if !ok || spec.Name.Name != of.Name() {
				continue
			}
			for _, f := range spec.Type.(*ast.StructType).Fields.List {
				for _, name := range f.Names {
					found[name.Name] = strings.Join(strings.Fields(cmp.Or(f.Comment.Text(), f.Doc.Text())), " ")
				}
			}
		}
	}
	return found
}

// TestSchemaRefuses protects the check itself: it finds what it is for.
func TestSchemaRefuses(t *testing.T) {
	for _, bad := range []string{
		`{"ok":"yes"}`, `{}`, `{"ok":true,"more":1}`, `[]`, `null`, `{"ok":true`, ``,
	} {
		if err := validate("reload", []byte(bad)); err == nil {
			t.Errorf("%s is a proper answer to reload", bad)
		}
	}
	for _, good := range []string{`{"ok":true}`, "{\"ok\":true}\n{\"ok\":false}\n"} {
		if err := validate("reload", []byte(good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	if err := validate("frobnicate", []byte(`{}`)); err == nil {
		t.Error("a verb without a schema passes")
	}
}

// validate checks each line that a verb printed against docs/schema. It is
// stricter than the schema: a field that it does not name is one that somebody
// forgot to document.
func validate(verb string, out []byte) error {
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	c.DefaultDraft(jsonschema.Draft2020)
	files, err := filepath.Glob(filepath.Join(schemaDir(), "*.json"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no schemas: %w", err)
	}
	for _, file := range files {
		doc, err := strictSchema(file)
		if err != nil {
			return err
		}
		if err := c.AddResource(schemaID+filepath.Base(file), doc); err != nil {
			return err
		}
	}
	lines := bytes.Split(bytes.TrimSuffix(out, []byte("\n")), []byte("\n"))
	for _, line := range lines {
		if err := validateLine(c, kindsOf(verb), line); err != nil {
			return fmt.Errorf("volseal %s printed %s: %w", verb, line, err)
		}
	}
	return nil
}

func validateLine(c *jsonschema.Compiler, kinds []string, line []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
	if err != nil {
		return err
	}
	for _, kind := range kinds {
		s, compileErr := c.Compile(schemaID + kind + ".json")
		if compileErr != nil {
			return compileErr
		}
		if err = s.Validate(value); err == nil {
			return nil
		}
	}
	return err
}

// strictSchema reads a schema and has it forbid fields that it does not name.
func strictSchema(file string) (any, error) {
	raw, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
	forbidOthers(doc)
	return doc, err
}

func forbidOthers(doc any) {
	switch node := doc.(type) {
	case map[string]any:
		if node["type"] == "object" && node["properties"] != nil {
			node["additionalProperties"] = false
		}
		for _, child := range node {
			forbidOthers(child)
		}
	case []any:
		for _, child := range node {
			forbidOthers(child)
		}
	}
}

// schemaDir is found from a script's directory too.
func schemaDir() string { return cmp.Or(os.Getenv("SCHEMAS"), "../../docs/schema") }

// checkedRun is runCLI, and then a check of what it printed as JSON: every
// script that uses --json holds it against the schema.
func checkedRun(run func(stdout *bytes.Buffer) int, args []string) (code int, out []byte, err error) {
	var stdout bytes.Buffer
	code = run(&stdout)
	out = stdout.Bytes()
	if !slices.Contains(args, "--json") || len(out) == 0 {
		return code, out, nil
	}
	root := newRootCommand(&cli{}, agentCommand())
	cmd, _, err := root.Find(args)
	if err != nil {
		return code, out, err
	}
	return code, out, validate(strings.TrimPrefix(cmd.CommandPath(), "volseal "), out)
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
